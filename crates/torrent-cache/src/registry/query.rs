//! Splits the query of a request to a registry: `ns` names the upstream, and the other parameters are passed on.

use percent_encoding::percent_decode_str;
use thiserror::Error;

/// The longest query, in bytes. An artifact type has at most 255 bytes.
const MAX_QUERY: usize = 2048;

/// A query, split into the parameter for this cache and the parameters for the registry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SplitQuery {
    /// The decoded value of `ns`, which names the registry.
    pub(super) namespace: Option<String>,
    /// The other parameters as the client wrote them.
    pub(super) passed: PassedQuery,
}

/// Parameters for the registry, such as `n=10&last=a`. Empty if there are none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct PassedQuery(String);

impl PassedQuery {
    /// Returns the parameters without the question mark.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why a query is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum QueryFault {
    /// The query is longer than 2048 bytes.
    #[error("the query is longer than {MAX_QUERY} bytes")]
    TooLong,
    /// The query has a character that is not allowed (RFC 3986, section 3.4), or an incomplete percent-encoding.
    #[error("the query has characters that must be percent-encoded")]
    NotAQuery,
    /// The query has `ns` twice, or its value is not UTF-8.
    #[error("the query must have ns= once, with the name of a registry")]
    Namespace,
}

impl SplitQuery {
    /// Reads a query, without its question mark.
    pub(super) fn parse(query: &str) -> Result<Self, QueryFault> {
        if query.len() > MAX_QUERY {
            return Err(QueryFault::TooLong);
        }
        if !is_query(query.as_bytes()) {
            return Err(QueryFault::NotAQuery);
        }
        let mut split = Self::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if percent_decode_str(name).eq(*b"ns") {
                let value = percent_decode_str(value).decode_utf8().map_err(|_| QueryFault::Namespace)?;
                if split.namespace.replace(value.into_owned()).is_some() {
                    return Err(QueryFault::Namespace);
                }
            } else {
                let separator = if split.passed.0.is_empty() { "" } else { "&" };
                split.passed.0.push_str(separator);
                split.passed.0.push_str(pair);
            }
        }
        Ok(split)
    }
}

/// Whether the text follows the grammar of queries (RFC 3986, section 3.4).
fn is_query(mut bytes: &[u8]) -> bool {
    loop {
        bytes = match bytes {
            [] => return true,
            [b'%', high, low, rest @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => rest,
            [byte, rest @ ..] if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?".contains(byte) => rest,
            _ => return false,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_namespace_is_taken_out_and_the_rest_passed_on() {
        let split = SplitQuery::parse("n=10&ns=10.0.0.5%3A5000&last=a%2Fb&&artifactType=a/b+c").unwrap();
        assert_eq!(split.namespace.as_deref(), Some("10.0.0.5:5000"));
        assert_eq!(split.passed.as_str(), "n=10&last=a%2Fb&artifactType=a/b+c");
        assert_eq!(SplitQuery::parse("%6E%73=quay.io").unwrap().namespace.as_deref(), Some("quay.io"));
        assert_eq!(SplitQuery::parse(""), Ok(SplitQuery::default()));
    }

    #[test]
    fn a_query_that_says_two_things_or_none_is_refused() {
        assert_eq!(SplitQuery::parse("ns=a&ns=a"), Err(QueryFault::Namespace));
        assert_eq!(SplitQuery::parse("ns=%ff"), Err(QueryFault::Namespace));
        for bad in ["a=%", "a=%0", "a=%zz", "a= ", "a=\r\nx", "a=\0", "a=#", "a=ä", "a=\"", "a=<"] {
            assert_eq!(SplitQuery::parse(bad), Err(QueryFault::NotAQuery), "{bad:?}");
        }
        assert_eq!(SplitQuery::parse(&"a".repeat(2049)), Err(QueryFault::TooLong));
    }
}
