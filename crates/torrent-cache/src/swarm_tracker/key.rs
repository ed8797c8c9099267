//! The name of a blob at the tracker.

use std::fmt;
use std::str::FromStr;

use tracker_protocol::InfoHash;

use super::secrets::ClusterSecret;
use crate::digest::{Digest, NotADigest};

/// The name under which hosts share a blob. A host may give a blob only for an upstream and a repository that have
/// delivered it, so the name is the SHA-256 of all three. It tells no other host what they are.
///
/// As text it is `sha256:` and 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShareKey(Digest);

impl ShareKey {
    /// The key of a blob. `upstream` is the origin and the place there with a space between them, as in a flight's key.
    pub fn new(upstream: &str, digest: Digest) -> Self {
        Self(Digest::of(format!("{upstream} {digest}").as_bytes()))
    }

    /// The swarm in which hosts share the blob before its piece hashes are known. Without a secret every host that
    /// knows the key can compute it.
    pub fn rendezvous(&self, secret: Option<&ClusterSecret>) -> InfoHash {
        let mut hash = [0; 20];
        hash.iter_mut().zip(self.mac(secret)).for_each(|(to, from)| *to = from);
        InfoHash(hash)
    }

    /// `source` in the blob's torrent file, as hexadecimal digits. It makes the info-hash a secret, too.
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
