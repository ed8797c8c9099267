use super::*;
use crate::topology::ExternalAddress;

#[test]
fn zones_with_all_that_can_be_said_of_them() {
    let text = "\
# sites
- name: office
  networks: [192.168.1.0/24, 'fd00:1::/32', 10.9.8.7, '::ffff:10.7.0.0/112']
  external-address: [203.0.113.1, '2001:db8::1']
- name: home
  networks:
    - 192.168.2.77/24
";
    let [office, home]: [Zone; 2] = parse(text).unwrap().try_into().unwrap();
    let networks: Vec<_> = office.networks.iter().map(IpNet::to_string).collect();
    assert_eq!(
        (office.name.as_str(), networks.join(" ")),
        ("office", "192.168.1.0/24 fd00:1::/32 10.9.8.7/32 10.7.0.0/16".into())
    );
    assert_eq!(office.external.v4, Some([203, 0, 113, 1].into()));
    assert_eq!(office.external.v6, "2001:db8::1".parse().ok());
    assert_eq!((home.networks[0].to_string().as_str(), home.external), ("192.168.2.0/24", ExternalAddress::default()));
    assert_eq!(parse("# none yet\n"), Ok(vec![]));
}

#[test]
fn a_zone_takes_over_what_another_says_and_has_nothing_where_nothing_is_said() {
    let text = "\
- &office
  name: office
  networks: [10.0.0.0/8]
  external-address: [203.0.113.1]
- <<: *office
  name: home
  networks: [192.168.0.0/16]
- name: barn
  networks: [172.16.0.0/12]
  external-address:
";
    let [office, home, barn]: [Zone; 3] = parse(text).unwrap().try_into().unwrap();
    assert_eq!((home.name.as_str(), home.networks[0].to_string().as_str()), ("home", "192.168.0.0/16"));
    assert_eq!((home.external, barn.external), (office.external, ExternalAddress::default()));
}

#[test]
fn problems_name_the_line_and_the_remedy() {
    let told: Vec<_> = [
        "- name: a\n  networks: [10.0.0.0/33]\n",
        "- name: a\n  networks:\n    - 10.0.0.0/8\n    - office\n",
        "- name: a\n  networks: ['::ffff:10.0.0.0/64']\n",
        "- name: a\n  networks: []\n",
        "- name: a\n",
        "- networks: [10.0.0.0/8]\n",
        "- name: ''\n  networks: [10.0.0.0/8]\n",
        "- name: a\n  network: 10.0.0.0/8\n",
        "- name: a\n  networks: 10.0.0.0/8\n",
        "- name: a\n  networks: [10.0.0.0/8]\n  external-address: [example.com]\n",
        "- name: a\n  networks: [10.0.0.0/8]\n  external-address:\n    - 127.0.0.1\n",
        "- name: a\n  networks: [10.0.0.0/8]\n  external-address: [1.2.3.4, 5.6.7.8]\n",
        "- name: a\n  networks: [10.0.0.0/8]\n- name: a\n  networks: [10.0.0.0/8]\n",
        "- name: a\n  networks: [10.0.0.0/8]\n  name: b\n",
        "name: a\n",
        "- 10.0.0.0/8\n",
        "a text",
    ]
    .into_iter()
    .map(|text| {
        let Problem { line, problem } = parse(text).unwrap_err();
        format!("{}: {problem}", line.map_or("-".to_owned(), |line| line.to_string()))
    })
    .collect();
    insta::assert_snapshot!(told.join("\n"), @r#"
        2: the network is "10.0.0.0/33", expected one such as 192.168.1.0/24 or fd00:1::/32
        4: the network is "office", expected one such as 192.168.1.0/24 or fd00:1::/32
        2: the network is "::ffff:10.0.0.0/64", expected a prefix of 96 or more for an IPv4 network that is written as IPv6
        1: it has no networks, expected a list such as [192.168.1.0/24]
        1: missing field `networks`
        1: missing field `name`
        1: name is "", expected 1 to 64 characters such as office
        2: unknown field `network`, expected one of `name`, `networks`, `external-address`
        2: found a text, expected a list
        3: external-address is "example.com", expected an address such as 203.0.113.1
        4: external-address is "127.0.0.1", expected an address such as 203.0.113.1
        1: its external-address has two of one family, expected one of IPv4 and one of IPv6 at most
        3: there is a zone "a" already, expected a different name for each
        3: duplicate field `name`
        1: invalid type: map, expected a list
        1: found a text, expected a zone such as `- name: office` with `networks: [192.168.1.0/24]`
        1: found a text, expected a list
        "#);
}
