use std::fs;

use ::settings::Flag;

use super::*;

fn read(text: &str) -> Result<AccessOptions, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.yml");
    fs::write(&path, text).unwrap();
    let file = AccessFile { origin: Origin::Flag(Flag::long("access")), path };
    let shown = format!("{}/", folder.path().display());
    file.read().map_err(|error| error.to_string().replace(&shown, ""))
}

#[test]
fn every_key() {
    let text = "\
networks:
  deny: [10.9.0.0/16, 'fd00::/8']
clients:
  allow: -TR40
torrents:
  deny:
    - 0123456789abcdef0123456789abcdef01234567
    - 0123456789ABCDEF0123456789ABCDEF01234567000000000000000000000000
jwt:
  keys: https://registry.example/keys
  issuer: quay
  audience: [http://tracker.example/announce, https://tracker.example/announce]
  refresh: 90s
  protect-scrape: true
  require-expiry: true
";
    let options = read(text).unwrap();
    assert!(matches!(options.networks, Some(ListRule::Deny(_))));
    assert!(matches!(options.clients, Some(ListRule::Allow(clients)) if clients.len() == 1));
    assert!(matches!(options.torrents, Some(ListRule::Deny(torrents)) if torrents.len() == 1));
    let jwt = options.jwt.unwrap();
    assert_eq!(jwt.keys, KeySource::Url("https://registry.example/keys".parse().unwrap()));
    let Issuers::Listed(issuers) = &jwt.issuers else { panic!("{jwt:?}") };
    assert_eq!((issuers.len(), jwt.audiences.len(), jwt.refresh.as_secs()), (1, 2, 90));
    assert!(jwt.protect_scrape && jwt.require_expiry);
}

#[test]
fn nothing_is_a_rule_about_nothing() {
    for text in ["", "# none yet\n", "{}", "networks:\n"] {
        let options = read(text).unwrap();
        assert!(options.networks.is_none() && options.jwt.is_none(), "{text}");
    }
    let defaults = read("jwt: {keys: keys.json, issuer: a, audience: b}").unwrap().jwt.unwrap();
    assert_eq!(defaults.refresh, Duration::from_mins(5));
    assert!(!defaults.protect_scrape && !defaults.require_expiry);
    assert!(matches!(defaults.keys, KeySource::File(path) if path.is_absolute() && path.ends_with("keys.json")));
}

#[test]
fn problems_name_the_line_and_the_remedy() {
    let jwt = |more: &str| format!("jwt:\n  keys: https://a.example/\n  issuer: i\n  audience: a\n{more}");
    let told: Vec<_> = [
        "- networks\n".to_owned(),
        "network: {allow: 10.0.0.0/8}\n".to_owned(),
        "networks: 10.0.0.0/8\n".to_owned(),
        "networks: {}\n".to_owned(),
        "networks:\n  allow: [10.0.0.0/8]\n  deny: [10.1.0.0/16]\n".to_owned(),
        "networks:\n  allow:\n    - 10.0.0.0/8\n    - office\n".to_owned(),
        "clients: {allow: ['-']}\n".to_owned(),
        "clients:\n  permit: [-TR40]\n".to_owned(),
        "torrents: {deny: [abc]}\n".to_owned(),
        "torrents: {deny: 'file:missing.txt'}\n".to_owned(),
        "jwt: {}\n".to_owned(),
        "jwt: {keys: 'ftp://a/', issuer: i, audience: a}\n".to_owned(),
        "jwt: {keys: '', issuer: i, audience: a}\n".to_owned(),
        "jwt: {keys: 'https://a/', issuer: [], audience: a}\n".to_owned(),
        "jwt: {keys: 'https://a/', issuer: i, audience: ''}\n".to_owned(),
        jwt("  refresh: 5\n"),
        jwt("  refresh: 1s\n"),
        jwt("  require-expiry: maybe\n"),
        jwt("  ca: missing.pem\n"),
        jwt("  secret: x\n"),
    ]
    .iter()
    .map(|text| read(text).unwrap_err())
    .collect();
    insta::assert_snapshot!(told.join("\n"), @r#"
    access.yml line 1: invalid type: sequence, expected access rules: a mapping with networks, clients, torrents or jwt
    access.yml line 1: unknown field `network`, expected one of `networks`, `clients`, `torrents`, `jwt`
    access.yml line 1: found a text, expected a mapping with `allow` or `deny`
    access.yml line 1: it has neither `allow` nor `deny`, expected one of them
    access.yml line 2: it has both `allow` and `deny`, expected one of them
    access.yml line 4: the network is "office", expected one such as 192.168.1.0/24
    access.yml line 1: the client is "-", expected the beginning of a peer id such as -TR40
    access.yml line 2: unknown field `permit`, expected `allow` or `deny`
    access.yml line 1: the torrent is "abc", expected the 40 or 64 hexadecimal digits of an info-hash, or file:PATH
    missing.txt: it cannot be read (No such file or directory (os error 2)), expected info-hashes
    access.yml line 1: missing field `keys`
    access.yml line 1: keys is no URL of http or https, expected one such as https://registry.example/keys
    access.yml line 1: keys is empty, expected the URL or the path of a JWK set
    access.yml line 1: its issuer or its audience is an empty list, expected a name in each
    access.yml line 1: the text is empty, expected a name
    access.yml line 5: refresh is "5", expected 10s to 24h, such as 5m
    access.yml line 5: refresh is "1s", expected 10s to 24h, such as 5m
    access.yml line 5: found a text, expected a boolean
    access.yml line 5: ca: missing.pem cannot be read (No such file or directory (os error 2))
    access.yml line 5: unknown field `secret`, expected one of `keys`, `ca`, `issuer`, `audience`, `refresh`, `protect-scrape`, `require-expiry`
    "#);
}
