//! `forwarders.yml`: a list of entries with `uri` and, optionally, `name`, `ip` and `host`.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Deserializer, de};
use url::Url;

use super::ConfigError;
use crate::forward::{self, ForwarderOptions};

/// Reads and checks the file. `setting` is what named it.
pub(super) fn read(setting: &'static str, path: PathBuf) -> Result<Vec<ForwarderOptions>, ConfigError> {
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) => {
            let error = match error.kind() {
                std::io::ErrorKind::IsADirectory => {
                    "it is a directory, which Docker makes of a mounted file that does not exist".to_owned()
                }
                std::io::ErrorKind::PermissionDenied => {
                    "permission denied: the user that retracker runs as must be allowed to read it, chmod 644"
                        .to_owned()
                }
                _ => error.to_string(),
            };
            return Err(ConfigError::Unreadable { setting, path, error });
        }
    };
    parse(&text).map_err(|Problem { line, problem }| ConfigError::Forwarders { path, line, problem })
}

#[derive(Debug, PartialEq, Eq)]
struct Problem {
    line: Option<usize>,
    problem: String,
}

fn parse(text: &str) -> Result<Vec<ForwarderOptions>, Problem> {
    // An empty file, or one with comments only, is an empty list.
    let entries: Option<Vec<Checked>> = serde_yaml::from_str(text).map_err(|error| {
        let message = error.to_string();
        let problem = message.split(" at line ").next().unwrap_or(&message);
        // Without the path to the place, which the line says better.
        let problem = match problem.split_once(": ") {
            Some((path, rest)) if path.starts_with(['.', '[']) => rest,
            _ => problem,
        };
        let problem = problem
            .replace("expected a sequence", "expected a list of entries such as `- uri: http://1.2.3.4/announce`");
        Problem { line: error.location().map(|location| location.line()), problem }
    })?;
    Ok(entries.unwrap_or_default().into_iter().map(|Checked(options)| options).collect())
}

#[derive(Debug, Deserialize)]
#[serde(try_from = "Entry")]
struct Checked(ForwarderOptions);

impl TryFrom<Entry> for Checked {
    type Error = String;

    fn try_from(entry: Entry) -> Result<Self, String> {
        forward::check(&entry.uri, entry.host.as_deref())?;
        Ok(Self(entry.into_options()))
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a forwarder with a uri, such as `- uri: http://1.2.3.4:8080/announce`")]
struct Entry {
    #[serde(deserialize_with = "uri")]
    uri: Url,
    #[serde(default)]
    name: Option<String>,
    #[serde(default, deserialize_with = "ip")]
    ip: Option<IpAddr>,
    #[serde(default, deserialize_with = "host")]
    host: Option<String>,
}

impl Entry {
    fn into_options(self) -> ForwarderOptions {
        // As the Go retracker names it: by the host and port of its URL, never by what may hold a passkey.
        let name = self.name.unwrap_or_else(|| forward::host_and_port(&self.uri));
        ForwarderOptions { name, uri: self.uri, ip: self.ip, host: self.host }
    }
}

fn uri<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Url, D::Error> {
    deserializer.deserialize_str(Text(|text: &str| {
        // Not the value itself: it may hold a passkey, and this goes to a log. The line says where it is.
        let wrong =
            |why: &str| format!("uri {why}, expected an announce URL such as http://tracker.example:8080/announce");
        let url = Url::parse(text).map_err(|error| wrong(&format!("is no URL ({error})")))?;
        match url.scheme() {
            "http" | "https" if url.host_str().is_some_and(|host| !host.is_empty()) => Ok(url),
            "http" | "https" => Err(wrong("has no host")),
            scheme => Err(wrong(&format!("has the scheme \"{scheme}\", only http and https are supported"))),
        }
    }))
}

fn ip<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<IpAddr>, D::Error> {
    deserializer.deserialize_option(Optional(|text: &str| {
        let wrong = || format!("ip is \"{}\", expected an address such as 192.168.1.15", text.escape_default());
        text.parse::<IpAddr>().map(|ip| ip.to_canonical()).map_err(|_| wrong())
    }))
}

fn host<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    deserializer.deserialize_option(Optional(|text: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
        let wrong = || format!("host is \"{}\", expected a host name such as retracker.local", text.escape_default());
        (!text.is_empty() && text.bytes().all(allowed)).then(|| text.to_owned()).ok_or_else(wrong)
    }))
}

/// Reads a value as text and checks it while the reader still knows on which line it stands.
struct Text<F>(F);

impl<T, F: FnOnce(&str) -> Result<T, String>> de::Visitor<'_> for Text<F> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.0)(text).map_err(E::custom)
    }
}

/// The same for a value that may be missing.
struct Optional<F>(F);

impl<'de, T, F: FnOnce(&str) -> Result<T, String>> de::Visitor<'de> for Optional<F> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text")
    }

    fn visit_none<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(Text(self.0)).map(Some)
    }
}

#[cfg(test)]
mod tests {
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
        assert_eq!(entries[2].ip, Some("192.168.1.15".parse().unwrap()));
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
    fn problems_name_the_line_and_the_remedy() {
        insta::assert_snapshot!(problem("- uri: http://a/announce\n- url: http://b/announce\n"), @r#"2: unknown field `url`, expected one of `uri`, `name`, `ip`, `host`"#);
        insta::assert_snapshot!(problem("- uri: http://a/announce\n  ip: example.com\n"), @r#"2: ip is "example.com", expected an address such as 192.168.1.15"#);
        insta::assert_snapshot!(problem("- uri: http://a/announce\n\n- uri: tracker.example/announce?key=secret\n"), @r#"3: uri is no URL (relative URL without a base), expected an announce URL such as http://tracker.example:8080/announce"#);
        insta::assert_snapshot!(problem("- uri: udp://a:80/announce\n"), @r#"1: uri has the scheme "udp", only http and https are supported, expected an announce URL such as http://tracker.example:8080/announce"#);
        insta::assert_snapshot!(problem("- uri: http://a/announce\n  host: 'a b'\n"), @r#"2: host is "a b", expected a host name such as retracker.local"#);
        insta::assert_snapshot!(problem("- uri: http://b/announce\n- uri: http://a/announce\n  host: 'a:b:c'\n"), @r#"1: its host is "a:b:c", but must be a name or an address, which may end in a port"#);
        insta::assert_snapshot!(problem("- uri: http://a:0/announce\n"), @r#"1: its uri names port 0, where nothing can listen"#);
        insta::assert_snapshot!(problem("- name: x\n"), @r#"1: missing field `uri`"#);
        insta::assert_snapshot!(problem("- http://a/announce\n"), @r#"1: invalid type: string "http://a/announce", expected a forwarder with a uri, such as `- uri: http://1.2.3.4:8080/announce`"#);
        insta::assert_snapshot!(problem("forwarders:\n  - uri: http://a/announce\n"), @r#"1: invalid type: map, expected a list of entries such as `- uri: http://1.2.3.4/announce`"#);
        insta::assert_snapshot!(problem("- uri: [\n"), @r#"1: invalid type: sequence, expected text"#);
        insta::assert_snapshot!(problem("- uri: http://a/announce\n\tip: 1.2.3.4\n"), @r#"2: found a tab character that violates indentation"#);
        insta::assert_snapshot!(problem("- uri: http://a/announce\n  uri: http://b/announce\n"), @r#"1: duplicate field `uri`"#);
        insta::assert_snapshot!(problem("- uri:\n"), @r#"1: uri is no URL (relative URL without a base), expected an announce URL such as http://tracker.example:8080/announce"#);
    }
}
