//! Who may use the calls about shared blobs.
//!
//! The threat: a program that knows a blob's info-hash can download the blob from the hosts. A program that may write
//! can send all hosts to a wrong torrent. So writers must be in certain networks. In an untrusted network the operator
//! sets a token, which readers and writers must send.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use ring::digest::{Digest, SHA256, digest};

use crate::access::NetworkSet;
use crate::frontend::client_address::Identity;
use crate::frontend::headers::Headers;
use crate::topology::reach;
use crate::tracker::Standing;

/// A secret that hosts send in `Authorization: Bearer`: 16 to 256 of the characters that RFC 6750 allows.
#[derive(Clone, PartialEq, Eq)]
pub struct BearerToken(String);

/// The text cannot be a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotABearerToken;

impl FromStr for BearerToken {
    type Err = NotABearerToken;

    fn from_str(text: &str) -> Result<Self, NotABearerToken> {
        let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
        let is_token = (16..=256).contains(&text.len()) && text.bytes().all(is_legal);
        if is_token { Ok(Self(text.to_owned())) } else { Err(NotABearerToken) }
    }
}

impl fmt::Debug for BearerToken {
    /// Leaves out the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BearerToken")
    }
}

/// Who may use the calls, as configured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GateOptions {
    /// The token of all hosts (`TORRENTS_TOKEN`). `None` if hosts need no token.
    pub token: Option<BearerToken>,
    /// The networks of hosts that may write (`--torrents-from`). `None` for private networks and this host.
    pub writers: Option<Vec<IpNet>>,
}

/// Who may use the calls.
#[derive(Debug)]
pub struct Gate {
    /// The hash of the token. Comparing hashes takes a time that discloses nothing about the token.
    token: Option<Digest>,
    writers: Option<NetworkSet>,
}

/// Why a host may not use a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::frontend) enum Denial {
    Token,
    /// A web page sent the request.
    Page,
    /// A proxy forwarded the request without naming the host, or is not trusted.
    Unclear,
    /// The host is in no network of writers.
    Network(IpAddr),
}

impl Gate {
    /// The rules as configured.
    pub fn new(options: GateOptions) -> Self {
        Self {
            token: options.token.map(|token| digest(&SHA256, token.0.as_bytes())),
            writers: options.writers.map(|networks| networks.into_iter().collect()),
        }
    }

    /// Decides whether the sender may use a call.
    pub(in crate::frontend) fn admit(
        &self,
        Identity { ip, standing }: Identity,
        headers: &impl Headers,
        is_read: bool,
    ) -> Result<(), Denial> {
        let is_wrong = |token: &Digest| {
            let given = headers.first("authorization").and_then(bearer).unwrap_or_default();
            digest(&SHA256, given).as_ref() != token.as_ref()
        };
        if self.token.as_ref().is_some_and(is_wrong) {
            return Err(Denial::Token);
        }
        match standing {
            Standing::Page => Err(Denial::Page),
            _ if is_read => Ok(()),
            Standing::Unclear | Standing::Untrusted => Err(Denial::Unclear),
            Standing::Client | Standing::NoClaims if !self.is_writer(ip) => Err(Denial::Network(ip)),
            Standing::Client | Standing::NoClaims => Ok(()),
        }
    }

    fn is_writer(&self, ip: IpAddr) -> bool {
        self.writers.as_ref().map_or_else(|| reach::is_local(ip), |networks| networks.contains(ip))
    }
}

/// The token in an `Authorization` header (RFC 6750, section 2.1). The scheme's case does not matter.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(b"Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Lines(Vec<(&'static str, &'static str)>);

    impl Headers for Lines {
        fn lines(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
            self.0.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()))
        }
    }

    const NO_LINES: Lines = Lines(Vec::new());

    fn client(ip: &str) -> Identity {
        Identity { ip: ip.parse().unwrap(), standing: Standing::Client }
    }

    #[test]
    fn writers_are_in_private_networks_unless_others_are_set() {
        let gate = Gate::new(GateOptions::default());
        for ip in ["127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.1.1", "::1", "fd00::1", "fe80::1"] {
            assert_eq!(gate.admit(client(ip), &NO_LINES, false), Ok(()), "{ip}");
        }
        for ip in ["8.8.8.8", "100.64.0.1", "2600::1", "0.0.0.0"] {
            let expected = Err(Denial::Network(ip.parse().unwrap()));
            assert_eq!(gate.admit(client(ip), &NO_LINES, false), expected, "{ip}");
            assert_eq!(gate.admit(client(ip), &NO_LINES, true), Ok(()), "{ip}");
        }
        let writers = Some(vec!["8.8.8.0/24".parse().unwrap()]);
        let gate = Gate::new(GateOptions { writers, ..GateOptions::default() });
        assert_eq!(gate.admit(client("8.8.8.8"), &NO_LINES, false), Ok(()));
        assert!(gate.admit(client("10.1.2.3"), &NO_LINES, false).is_err());
    }

    #[test]
    fn only_a_host_that_is_known_may_write() {
        let gate = Gate::new(GateOptions::default());
        let sender = |standing| Identity { standing, ..client("10.0.0.1") };
        for (standing, write, read) in [
            (Standing::Client, Ok(()), Ok(())),
            (Standing::NoClaims, Ok(()), Ok(())),
            (Standing::Unclear, Err(Denial::Unclear), Ok(())),
            (Standing::Untrusted, Err(Denial::Unclear), Ok(())),
            (Standing::Page, Err(Denial::Page), Err(Denial::Page)),
        ] {
            assert_eq!(gate.admit(sender(standing), &NO_LINES, false), write, "{standing:?}");
            assert_eq!(gate.admit(sender(standing), &NO_LINES, true), read, "{standing:?}");
        }
    }

    #[test]
    fn a_token_is_for_readers_and_writers() {
        let token: BearerToken = "0123456789abcdef".parse().unwrap();
        assert!(!format!("{token:?}").contains("0123"));
        let gate = Gate::new(GateOptions { token: Some(token), ..GateOptions::default() });
        let admit = |value, is_read| gate.admit(client("10.0.0.1"), &Lines(vec![("Authorization", value)]), is_read);
        for is_read in [true, false] {
            assert_eq!(gate.admit(client("10.0.0.1"), &NO_LINES, is_read), Err(Denial::Token));
            assert_eq!(admit("Bearer 0123456789abcdef", is_read), Ok(()));
            assert_eq!(admit("bearer  0123456789abcdef", is_read), Ok(()));
            for wrong in ["Bearer 0123456789abcdeg", "Bearer 0123456789abcde", "Bearer", "", "Basic 0123456789abcdef"] {
                assert_eq!(admit(wrong, is_read), Err(Denial::Token), "{wrong}");
            }
        }
        // The token does not replace the rule about networks.
        let outside = gate.admit(client("8.8.8.8"), &Lines(vec![("authorization", "Bearer 0123456789abcdef")]), false);
        assert_eq!(outside, Err(Denial::Network("8.8.8.8".parse().unwrap())));
    }

    #[test]
    fn a_token_is_long_and_of_legal_characters() {
        for text in ["0123456789abcdef", "aA0-._~+/=aaaaaa", &"x".repeat(256)] {
            assert!(text.parse::<BearerToken>().is_ok(), "{text}");
        }
        for text in ["", "short", "0123456789 abcdef", "0123456789abcde\u{e9}", &"x".repeat(257)] {
            assert_eq!(text.parse::<BearerToken>(), Err(NotABearerToken), "{text}");
        }
    }
}
