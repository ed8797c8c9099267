//! The name by which the tracker knows a blob.

use std::fmt;
use std::str::FromStr;

use tracker_protocol::InfoHash;

use super::secrets::ClusterSecret;
use crate::digest::{Digest, NotADigest};

/// The name under which hosts share a blob: the SHA-256 of its upstream, its repository and its digest. Upstream and
/// repository are part of it, because a host may give a blob only to clients of an upstream and a repository that have
/// delivered the blob. The name reveals none of the three.
///
/// As text it is `sha256:` and 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShareKey(Digest);

impl ShareKey {
    /// Makes the key of a blob. `upstream` is the origin, a space, and the place on that server, such as `quay.io a/b`.
    pub fn new(upstream: &str, digest: Digest) -> Self {
        Self(Digest::of(format!("{upstream} {digest}").as_bytes()))
    }

    /// Returns the info-hash of the swarm for the time before the blob's piece hashes are known. Without a secret,
    /// every host that knows the key can compute it.
    pub fn rendezvous(&self, secret: Option<&ClusterSecret>) -> InfoHash {
        let mut hash = [0; 20];
        hash.iter_mut().zip(self.mac(secret)).for_each(|(to, from)| *to = from);
        InfoHash(hash)
    }

    /// Returns the `source` of the blob's torrent file, as hexadecimal digits. With a secret, the info-hash is secret
    /// too, because it covers `source`.
    pub fn info_source(&self, secret: Option<&ClusterSecret>) -> String {
        Digest(self.mac(secret)).hex()
    }

    fn mac(&self, secret: Option<&ClusterSecret>) -> [u8; 32] {
        let text = self.to_string();
        secret.map_or_else(|| Digest::of(text.as_bytes()).0, |secret| secret.mac(text.as_bytes()))
    }
}

impl fmt::Display for ShareKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for ShareKey {
    type Err = NotADigest;

    fn from_str(text: &str) -> Result<Self, NotADigest> {
        text.parse().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_depends_on_all_three() {
        let blob = Digest::of(b"blob");
        let key = ShareKey::new("quay.io a/b", blob);
        assert_eq!(key.to_string(), Digest::of(format!("quay.io a/b {blob}").as_bytes()).to_string());
        assert_eq!(key.to_string().parse(), Ok(key));
        for other in [
            ShareKey::new("docker.io a/b", blob),
            ShareKey::new("quay.io a/c", blob),
            ShareKey::new("quay.io a/b", Digest::of(b"other")),
        ] {
            assert_ne!(other, key);
        }
    }

    #[test]
    fn the_swarm_depends_on_the_secret() {
        let key = ShareKey::new("quay.io a/b", Digest::of(b"blob"));
        let secret: ClusterSecret = "0123456789abcdef".parse().unwrap();
        let other: ClusterSecret = "0123456789abcdeg".parse().unwrap();
        let open = Digest::of(key.to_string().as_bytes()).hex();
        assert_eq!((key.rendezvous(None).to_string(), key.info_source(None)), (open[..40].to_owned(), open));
        let closed = Digest(secret.mac(key.to_string().as_bytes())).hex();
        assert_eq!(key.rendezvous(Some(&secret)).to_string(), closed[..40]);
        assert_eq!(key.info_source(Some(&secret)), closed);
        assert_ne!(key.info_source(Some(&other)), closed);
    }
}
