//! Reads which credentials an upstream asks for in `WWW-Authenticate` (RFC 9110, section 11.6.1; the distribution
//! project's "Token Authentication").

use http::header::{HeaderMap, WWW_AUTHENTICATE};
use http_auth::{ChallengeRef, parse_challenges};

/// The longest line that is read, in bytes.
const MAX_LINE: usize = 8 << 10;

/// Which credentials an upstream asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// A token from the service at `realm`.
    Bearer {
        /// The URL of the token service.
        realm: String,
        /// The name of the upstream at the token service.
        service: Option<String>,
    },
    /// A name and a password.
    Basic,
}

/// Returns the challenge of a 401 that we can answer. A token is preferred to a password. The `scope` is not read,
/// because we know which repository we ask for.
pub(super) fn challenge(headers: &HeaderMap) -> Option<Challenge> {
    let lines = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|line| line.to_str().ok());
    let lines = lines.filter(|line| line.len() <= MAX_LINE);
    let mut all: Vec<_> =
        lines.filter_map(|line| parse_challenges(line).ok()).flatten().filter_map(|one| read(&one)).collect();
    let bearer = all.iter().position(|challenge| matches!(challenge, Challenge::Bearer { .. }));
    (!all.is_empty()).then(|| all.swap_remove(bearer.unwrap_or(0)))
}

fn read(challenge: &ChallengeRef<'_>) -> Option<Challenge> {
    let parameter = |name: &str| {
        let found = challenge.params.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.to_unescaped())
    };
    if challenge.scheme.eq_ignore_ascii_case("bearer") {
        Some(Challenge::Bearer { realm: parameter("realm")?, service: parameter("service") })
    } else if challenge.scheme.eq_ignore_ascii_case("basic") {
        Some(Challenge::Basic)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn of(lines: &[&str]) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(WWW_AUTHENTICATE, HeaderValue::try_from(*line).unwrap());
        }
        challenge(&headers)
    }

    fn bearer(realm: &str, service: Option<&str>) -> Challenge {
        Challenge::Bearer { realm: realm.to_owned(), service: service.map(str::to_owned) }
    }

    #[test]
    fn challenges_are_read_as_registries_write_them() {
        let hub =
            r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a:pull""#;
        assert_eq!(of(&[hub]), Some(bearer("https://auth.docker.io/token", Some("registry.docker.io"))));
        assert_eq!(of(&["bearer REALM=x"]), Some(bearer("x", None)));
        assert_eq!(of(&[r#"Basic realm="a, Bearer realm=\"x\"""#]), Some(Challenge::Basic));
        assert_eq!(of(&[r#"Basic realm="a", Bearer realm="b\"c""#]), Some(bearer("b\"c", None)));
        assert_eq!(of(&["Negotiate", r#"Basic realm="a""#]), Some(Challenge::Basic));
    }

    #[test]
    fn hostile_challenges_are_none() {
        let long = format!(r#"Bearer realm="{}""#, "a".repeat(9000));
        for line in ["", ",", "Bearer", "Bearer service=\"x\"", "Bearer realm=\"x", "Digest realm=\"x\"", "\"", &long] {
            assert_eq!(of(&[line]), None, "{line}");
        }
        assert_eq!(of(&[]), None);
    }

    proptest! {
        #[test]
        fn any_line_is_read(line in "[ -~]{0,80}", other in r#"(Bearer|Basic|realm|=|"|,|\\| |x){0,30}"#) {
            of(&[&line]);
            of(&[&other, &line]);
        }
    }
}
