//! How a request names its registry. The links in the reply must name the registry in the same way.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// The characters that are encoded in a value of a query: all except the unreserved ones (RFC 3986, section 2.3).
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// How a request names its registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegistryNaming {
    /// The request does not name a registry, so it goes to the default one.
    Absent,
    /// By the first component of the path, as the client wrote it.
    Path(String),
    /// By `?ns=`, decoded.
    Query(String),
}

impl RegistryNaming {
    /// Rewrites the value of a `Link` header (RFC 8288), so that the client asks this cache again. Targets on other
    /// servers stay as they are.
    pub fn link(&self, value: &str) -> String {
        let mut said = String::with_capacity(value.len());
        let mut rest = value;
        while let Some((before, after)) = rest.split_once('<') {
            let Some((target, parameters)) = after.split_once('>') else { break };
            said.push_str(before);
            said.push('<');
            said.push_str(&self.target(target));
            said.push('>');
            // A quoted parameter can contain '<', so the search goes on after the parameters.
            let end = next_link(parameters);
            said.push_str(parameters.get(..end).unwrap_or_default());
            rest = parameters.get(end..).unwrap_or_default();
        }
        said + rest
    }

    fn target(&self, target: &str) -> String {
        let before_path = target.split(['/', '?', '#']).next().unwrap_or_default();
        if target.starts_with("//") || before_path.contains(':') {
            return target.to_owned();
        }
        match self {
            Self::Absent => target.to_owned(),
            Self::Path(name) => match target.strip_prefix("/v2/") {
                Some(path) => format!("/v2/{name}/{path}"),
                None => target.to_owned(),
            },
            Self::Query(name) => {
                let (url, fragment) = target.split_at(target.find('#').unwrap_or(target.len()));
                let separator = if url.contains('?') { '&' } else { '?' };
                format!("{url}{separator}ns={}{fragment}", utf8_percent_encode(name, ENCODED))
            }
        }
    }
}

/// Returns where the parameters of a link end: at the first comma outside quotes, or at the end of the value.
fn next_link(parameters: &str) -> usize {
    let (mut is_quoted, mut is_escaped) = (false, false);
    for (at, letter) in parameters.char_indices() {
        match letter {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => return at,
            _ => {}
        }
    }
    parameters.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_name_the_registry_as_the_request_did() {
        let link = r#"</v2/a/tags/list?n=1&last=x>; rel="next"; title="a, <b>", <?n=2>;rel=x"#;
        assert_eq!(RegistryNaming::Absent.link(link), link);
        assert_eq!(
            RegistryNaming::Path("quay.io".to_owned()).link(link),
            r#"</v2/quay.io/a/tags/list?n=1&last=x>; rel="next"; title="a, <b>", <?n=2>;rel=x"#
        );
        assert_eq!(
            RegistryNaming::Query("[::1]:5000".to_owned()).link(link),
            r#"</v2/a/tags/list?n=1&last=x&ns=%5B%3A%3A1%5D%3A5000>; rel="next"; title="a, <b>", <?n=2&ns=%5B%3A%3A1%5D%3A5000>;rel=x"#
        );
        assert_eq!(RegistryNaming::Query("q".to_owned()).link("</v2/a#x>"), "</v2/a?ns=q#x>");
    }

    #[test]
    fn links_to_other_servers_and_what_is_no_link_stay_as_they_are() {
        for link in ["<https://quay.io/v2/a/tags/list>; rel=next", "<//quay.io/v2/a>", "", "x", "</v2/a", ">", "<"] {
            for naming in [RegistryNaming::Path("q".to_owned()), RegistryNaming::Query("q".to_owned())] {
                assert_eq!(naming.link(link), link, "{naming:?}");
            }
        }
    }
}
