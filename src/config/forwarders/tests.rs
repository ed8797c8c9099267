use super::*;

fn problem(text: &str) -> String {
    let Problem { line, problem } = parse(text).unwrap_err();
    format!("{}: {problem}", line.map_or("-".to_owned(), |line| line.to_string()))
}

#[test]
fn the_seed_s_file() {
    let text = "\
- uri: http://1.2.3.4:8080/announce
- uri: http://5.6.7.8:8080/announce
- uri: http://5.6.7.8:8080/announce
  ip: 192.168.1.15 # announce different torrent client IP to this forwarder
- uri: http://192.168.1.1:8080/announce
  host: retracker.local # external retracker.local (like on picture above)
- uri: https://tracker.example/announce?passkey=secret
  name: example
";
    let entries = parse(text).unwrap();
    let names: Vec<_> = entries.iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!(names, ["1.2.3.4:8080", "5.6.7.8:8080", "5.6.7.8:8080", "192.168.1.1:8080", "example"]);
    assert_eq!(entries[2].ip, AnnouncedIp::Fixed("192.168.1.15".parse().unwrap()));
    assert_eq!(entries[3].host.as_deref(), Some("retracker.local"));
    assert!(!format!("{entries:?}").contains("secret"));
}

#[test]
fn nothing_is_an_empty_list() {
    assert_eq!(parse(""), Ok(vec![]));
    assert_eq!(parse("# - uri: http://x/announce\n"), Ok(vec![]));
    assert_eq!(parse("[]"), Ok(vec![]));
}

#[test]
fn all_that_can_be_said_of_an_entry_and_of_all() {
    let hash = "0123456789012345678901234567890123456789";
    let text = format!(
        "\
timeout: 3
numwant: 80
except: [{hash}]
forwarders:
  - uri: udp://tracker.example:6969/announce?x=y
    ip: client
  - uri: http://tracker.example/announce
    timeout: 0.5
    numwant: 1
    only:
      - {hash}
      - 89abcdefABCDEF0123456789012345678901234567890123456789012345678a
"
    );
    let [first, second]: [_; 2] = parse(&text).unwrap().try_into().unwrap();
    let info_hash = InfoHash(std::array::from_fn(|n| [0x01, 0x23, 0x45, 0x67, 0x89][n % 5]));
    assert_eq!((first.timeout, first.numwant), (Some(Duration::from_secs(3)), Some(80)));
    assert_eq!((first.ip, first.torrents), (AnnouncedIp::Client, Torrents::Except(BTreeSet::from([info_hash]))));
    assert_eq!((second.timeout, second.numwant), (Some(Duration::from_millis(500)), Some(1)));
    let Torrents::Only(only) = second.torrents else { panic!("{:?}", second.torrents) };
    assert!(only.len() == 2 && only.contains(&info_hash), "{only:?}");
    assert_eq!(parse("timeout: 3\n"), Ok(vec![]));
    assert_eq!(parse("forwarders:\n"), Ok(vec![]));
}

#[test]
fn an_entry_takes_over_what_another_says() {
    let text = "\
- &first
  uri: http://a/announce
  timeout: 3
  numwant: 80
  only: [0123456789012345678901234567890123456789]
- <<: *first
  uri: http://b/announce
- uri: http://c/announce
  numwant: 7
  <<: [{numwant: 8, timeout: 0.5}, *first]
- &chained
  <<: *first
  uri: http://d/announce
  numwant: 9
- {<<: *chained, uri: http://e/announce, ip: client}
";
    let entries = parse(text).unwrap();
    let said: Vec<_> = entries
        .iter()
        .map(|entry| (entry.uri.host_str().unwrap(), entry.timeout.unwrap().as_millis(), entry.numwant.unwrap()))
        .collect();
    assert_eq!(said, [("a", 3000, 80), ("b", 3000, 80), ("c", 500, 7), ("d", 3000, 9), ("e", 3000, 9)]);
    assert!(entries.iter().all(|entry| matches!(&entry.torrents, Torrents::Only(only) if only.len() == 1)));
    let common = "<<: {timeout: 4}\nforwarders:\n  - uri: http://a/announce\n";
    assert_eq!(parse(common).unwrap()[0].timeout, Some(Duration::from_secs(4)));
    assert_eq!(problem("- &a\n  uri: http://a/announce\n\n- <<: *b\n  uri: http://b/announce\n"), "4: unknown anchor");
    assert_eq!(
        problem("- uri: http://a/announce\n- <<: a\n  uri: http://b/announce\n"),
        "2: `<<` merges a value that is not a mapping, expected one such as *anchor"
    );
    assert_eq!(
        problem("- uri: http://a/announce\n- <<: {uri: http://b/announce, port: 3}\n"),
        "2: unknown field `port`, expected one of `uri`, `name`, `ip`, `host`, `timeout`, `numwant`, `rate`, `ca`, `only`, `except`"
    );
}

#[test]
fn yaml_as_people_write_it() {
    let written = |text: &str| parse(text).map(|entries| entries.len()).map_err(|_| problem(text));
    for text in [
        "---\n- uri: http://a/announce\n",
        "---\n- uri: http://a/announce\n...\n",
        "%YAML 1.1\n---\n- uri: http://a/announce\n---\n",
        "- uri: http://a/announce\r\n  name: x\r\n",
        "- uri: http://a/announce\r  name: x\r",
        "- uri: \"http://a/announce\"\n  timeout: \"3\"\n  numwant: '7'\n",
        "- uri: http://a/announce\n  name: ~\n  ip:\n  host: null\n  timeout: ~\n  numwant:\n  only: ~\n  except:\n",
        "timeout: ~\nforwarders:\n- uri: http://a/announce\n  name: yes\n",
        "- {uri: 'http://a/announce', name: 7}",
        "[{uri: http://a/announce,},]",
        "- uri: http://a/announce\t\n  name: x\t# mine\n",
        "- uri: >-\n    http://a/announce\n",
    ] {
        assert_eq!(written(text), Ok(1), "{text:?}");
    }
    for text in ["---\n", "---\n...\n", "~\n", "null", "--- # none\n---\n", "forwarders: ~\n"] {
        assert_eq!(written(text), Ok(0), "{text:?}");
    }
    let second = "- uri: http://a/announce\n---\n# more\n- uri: http://b/announce\n";
    assert_eq!(problem(second), "4: a second document begins here, expected one in a file");
}

#[test]
fn the_error_for_a_repeated_forwarder_names_both_lines() {
    let hash = |digit: &str| digit.repeat(40);
    for (first, second) in [
        ("uri: http://a/announce", "uri: http://a/announce"),
        ("uri: http://a/announce", "uri: http://a:80/announce"),
        ("uri: https://a/announce", "uri: HTTPS://A.:443/announce"),
        ("uri: http://a/announce", "uri: http://a/%61nnounce#x"),
        ("uri: http://a/announce", "uri: http://a/announce?"),
        ("uri: http://a", "uri: http://a/"),
        ("uri: http://a/?k=%2f", "uri: http://a/?k=%2F"),
        ("uri: http://a/x/../announce", "uri: http://a/announce"),
        ("uri: udp://a:80", "uri: udp://A:80"),
        ("uri: http://127.0.0.1/announce", "uri: http://127.1/announce"),
        ("{uri: http://a/announce, name: x}", "{uri: http://a/announce, name: y, timeout: 3}"),
        ("{uri: http://a/announce, host: b}", "{uri: http://a/announce, host: B}"),
        ("{uri: http://a/announce, ip: 10.0.0.1}", "{uri: http://a/announce, ip: '::ffff:10.0.0.1'}"),
        (&format!("{{uri: http://a/announce, only: [{}]}}", hash("1")), "uri: http://a/announce"),
    ] {
        let told = "it repeats the forwarder of line 2, with the same uri, host and ip; expected one entry for it";
        assert_eq!(problem(&format!("# mine\n- {first}\n\n- {second}\n")), format!("4: {told}"));
        let told = told.replace("line 2", "line 3");
        let within = format!("timeout: 3\nforwarders:\n  - {first}\n  - uri: http://other/\n  - {second}\n");
        assert_eq!(problem(&within), format!("5: {told}"));
    }
    for (first, second) in [
        ("uri: http://a/announce", "uri: https://a/announce"),
        ("uri: http://a/announce", "uri: http://a/Announce"),
        ("uri: http://a/announce", "uri: http://a:81/announce"),
        ("uri: http://a/announce?k=1", "uri: http://a/announce?k=2"),
        ("uri: http://a/announce", "{uri: http://a/announce, ip: 10.0.0.1}"),
        ("uri: http://a/announce", "{uri: http://a/announce, ip: client}"),
        ("uri: http://a/announce", "{uri: http://a/announce, host: b}"),
        ("uri: http://a/%2F", "uri: http://a//"),
        (
            &format!("{{uri: http://a/announce, only: [{}]}}", hash("1")),
            &format!("{{uri: http://a/announce, only: [{}]}}", hash("2")),
        ),
        (
            &format!("{{uri: http://a/announce, only: [{}]}}", hash("1")),
            &format!("{{uri: http://a/announce, except: [{}]}}", hash("1")),
        ),
    ] {
        assert_eq!(parse(&format!("- {first}\n- {second}\n")).map(|entries| entries.len()), Ok(2), "{second}");
    }
}

#[test]
fn problems_name_the_line_and_the_remedy() {
    let told: Vec<_> = [
        "- uri: http://a/announce\n- url: http://b/announce\n",
        "- uri: http://a/announce\n  ip: example.com\n",
        "- uri: http://a/announce\n\n- uri: tracker.example/announce?key=secret\n",
        "- uri: ftp://a/announce\n",
        "- uri: udp://a/announce\n",
        "- uri: udp://a:80/announce\n  host: b\n",
        "- uri: udp://a:80/announce\n  ip: 'fd00::1'\n",
        "- uri: http://a/announce\n  host: 'a b'\n",
        "- uri: http://b/announce\n- uri: http://a/announce\n  host: 'a:b:c'\n",
        "- uri: http://a:0/announce\n",
        "- name: x\n",
        "- http://a/announce\n",
        "- uri: [\n",
        "- uri: http://a/announce\n\tip: 1.2.3.4\n",
        "- uri: http://a/announce\n  uri: http://b/announce\n",
        "- uri: http://a/announce\n  name: x\n  timeout: 3\n  name: y\n",
        "timeout: 3\nforwarders: []\ntimeout: 4\n",
        "- uri:\n",
        "- uri: http://a/announce\n  timeout: soon\n",
        "- uri: http://a/announce\n  timeout: 0\n",
        "- uri: http://a/announce\n  numwant: -1\n",
        "- uri: http://a/announce\n  only:\n    - 0123456789012345678901234567890123456789\n    - 0123\n",
        "- uri: http://a/announce\n  only: 0123456789012345678901234567890123456789\n",
        "- uri: http://b/announce\n- uri: http://a/announce\n  only: []\n  except: []\n",
        "a text",
        "forwarders: 7\n",
        "# all\ntimeouts: 7\n",
        "timeout: 61\nforwarders: []\n",
        "only: []\nexcept: []\n",
        "numwant: 10\nforwarders:\n  - uri: http://a/announce\n    numwant: none\n",
        "numwant: 10\nforwarders:\n  - uri: http://a/announce\n  - uri: http://a:0/announce\n",
        "- uri: http://b/announce\n- uri: http://a/announce\n  name: \"a\\nb\"\n",
        "- uri: http://a/announce\n  name: |\n    a\n    b\n",
        "- uri: http://a/announce\n  name: \"\\e[1m\"\n",
        "- uri: http://a/announce\n  name: ' '\n",
        "- uri: http://b/announce\n- uri: https://a/announce\n  ca: /nowhere/ca.pem\n",
        "- uri: https://a/announce\n  ca: Cargo.toml\n",
    ]
    .into_iter()
    .map(problem)
    .collect();
    insta::assert_snapshot!(told.join("\n"), @r#"
        2: unknown field `url`, expected one of `uri`, `name`, `ip`, `host`, `timeout`, `numwant`, `rate`, `ca`, `only`, `except`
        2: ip is "example.com", expected an address such as 192.168.1.15, or client
        3: uri is no URL (relative URL without a base), expected an announce URL such as http://tracker.example:8080/announce
        1: uri has the scheme "ftp", only http, https and udp are supported, expected an announce URL such as http://tracker.example:8080/announce
        1: its uri names no port, and UDP trackers have no default port
        1: host cannot be used with udp://
        1: its ip is an IPv6 address, but a UDP announce has room for IPv4 only
        2: host is "a b", expected a host name such as retracker.local
        2: its host is "a:b:c", but must be a name or an address, which may end in a port
        1: its uri names port 0, where nothing can listen
        1: missing field `uri`
        1: found a text, expected a forwarder with a uri, such as `- uri: http://1.2.3.4:8080/announce`
        1: invalid type: sequence, expected text
        2: found a tab character that violates indentation
        2: duplicate field `uri`
        4: duplicate field `name`
        3: duplicate field `timeout`
        1: uri is no URL (relative URL without a base), expected an announce URL such as http://tracker.example:8080/announce
        2: timeout is "soon", expected seconds from 0.1 to 60, such as 10
        2: timeout is "0", expected seconds from 0.1 to 60, such as 10
        2: numwant is "-1", expected a whole number from 1 to 1000, such as 200
        4: the info-hash is "0123", expected 40 hexadecimal digits, or the 64 of a v2 torrent
        2: found a text, expected a list
        2: it has both `only` and `except`, expected one of them
        1: found a text, expected a list of entries such as `- uri: http://1.2.3.4/announce`
        1: invalid type: integer `7`, expected a list
        2: unknown field `timeouts`, expected one of `timeout`, `numwant`, `rate`, `ca`, `only`, `except`, `forwarders`
        1: timeout is "61", expected seconds from 0.1 to 60, such as 10
        1: it has both `only` and `except`, expected one of them
        4: numwant is "none", expected a whole number from 1 to 1000, such as 200
        4: its uri names port 0, where nothing can listen
        3: name is "a\nb", expected a name without line breaks and control characters
        2: name is "a\nb\n", expected a name without line breaks and control characters
        2: name is "\u{1b}[1m", expected a name without line breaks and control characters
        2: name is " ", expected a name such as example
        3: ca: /nowhere/ca.pem cannot be read (No such file or directory (os error 2))
        2: ca: Cargo.toml holds no certificate, expected a PEM file with `-----BEGIN CERTIFICATE-----`
        "#);
}
