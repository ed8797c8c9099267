//! The sentences with which the rules refuse an announce. If a Chihaya file is in use, these are Chihaya's
//! sentences, because scripts of Chihaya's users read them.

use tracker_protocol::Refusal;

use super::jwt::JwtFault;

/// Whether refusals use the tracker's own sentences or Chihaya's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RefusalWording {
    /// The tracker's own sentences, which say what the client can do.
    #[default]
    Own,
    /// The sentences of Chihaya v1.0.
    ChihayaV1,
    /// The sentences of Chihaya v2.
    ChihayaV2,
}

impl RefusalWording {
    pub(super) fn client(self) -> Refusal {
        Refusal::Denied(match self {
            Self::Own => "the tracker's access rules refuse this client: use another program",
            Self::ChihayaV1 => "client is not approved",
            Self::ChihayaV2 => "unapproved client",
        })
    }

    pub(super) fn torrent(self) -> Refusal {
        Refusal::Denied(match self {
            Self::Own => "the tracker's access rules refuse this torrent",
            Self::ChihayaV1 => "torrent does not exist",
            Self::ChihayaV2 => "unapproved torrent",
        })
    }

    pub(super) fn token(self, fault: JwtFault) -> Refusal {
        let (own, is_final) = own(fault);
        let reason = match self {
            Self::Own => own,
            Self::ChihayaV1 => v1(fault).unwrap_or(own),
            Self::ChihayaV2 if fault == JwtFault::Missing => "unapproved request: missing jwt",
            Self::ChihayaV2 => "unapproved request: invalid jwt",
        };
        if is_final { Refusal::Denied(reason) } else { Refusal::NotNow { reason, minutes: 1 } }
    }
}

/// Returns the tracker's own sentence about a token, for the operator.
pub(super) fn sentence(fault: JwtFault) -> &'static str {
    own(fault).0
}

/// Returns the sentence, and whether the refusal is final. A refusal is final if no later try with the same token can
/// succeed.
fn own(fault: JwtFault) -> (&'static str, bool) {
    match fault {
        JwtFault::Missing | JwtFault::Empty => ("jwt is missing: this tracker needs a token in the announce URL", true),
        JwtFault::Malformed => ("jwt is not a token", true),
        JwtFault::TooLong => ("jwt is too long: 8192 bytes at most", true),
        JwtFault::NoKeys => ("jwt cannot be checked now: the tracker has no keys yet", false),
        JwtFault::UnknownKey => ("jwt is signed with a key that the tracker does not know", false),
        JwtFault::Signature => ("jwt has a wrong signature", true),
        JwtFault::Issuer => ("jwt has no issuer that the tracker accepts", true),
        JwtFault::Audience => ("jwt is not for this tracker", true),
        JwtFault::InfoHash => ("jwt names no torrent", true),
        JwtFault::OtherTorrent => ("jwt is for another torrent", true),
        JwtFault::NoExpiry => ("jwt has no expiry, which this tracker requires", true),
        JwtFault::Expired => ("jwt has expired: get the torrent again", true),
        JwtFault::NotYet => ("jwt is not valid yet", false),
        JwtFault::TooMany => ("jwt was not checked: too many wrong tokens in this second", false),
    }
}

/// Returns the sentence of Chihaya v1.0.2. `None` if Chihaya answers such a fault with a library's error, or does not
/// check for it.
fn v1(fault: JwtFault) -> Option<&'static str> {
    match fault {
        JwtFault::Issuer => Some("Failed to validate JWT issuer claim"),
        JwtFault::Audience => Some("Failed to validate JWT audience claim"),
        JwtFault::InfoHash => Some("Failed to validate JWT infohash claim"),
        JwtFault::OtherTorrent => Some("Failed to match infohash claim with requested infohash"),
        JwtFault::NoKeys => Some("Failed verify JWT due to stale JWK Set"),
        JwtFault::Signature | JwtFault::UnknownKey => Some("Failed to verify JWT signature with available verifiers"),
        JwtFault::Empty | JwtFault::Malformed | JwtFault::TooLong => Some("Failed to parse JWT"),
        JwtFault::Missing => Some("malformed request"),
        JwtFault::NoExpiry | JwtFault::Expired | JwtFault::NotYet | JwtFault::TooMany => None,
    }
}
