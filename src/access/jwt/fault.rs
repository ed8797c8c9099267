//! Why a token is not accepted.

use jsonwebtoken::errors::ErrorKind;
use tracker_protocol::Refusal;

/// Why a token is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JwtFault {
    Missing,
    Malformed,
    NoKeys,
    UnknownKey,
    Signature,
    Issuer,
    Audience,
    InfoHash,
    OtherTorrent,
    NoExpiry,
    Expired,
    NotYet,
    TooMany,
}

impl JwtFault {
    /// The fault that the library found.
    pub(super) fn found(kind: &ErrorKind) -> Self {
        match kind {
            ErrorKind::InvalidIssuer => JwtFault::Issuer,
            ErrorKind::InvalidAudience => JwtFault::Audience,
            ErrorKind::MissingRequiredClaim(claim) if claim == "iss" => JwtFault::Issuer,
            ErrorKind::MissingRequiredClaim(claim) if claim == "aud" => JwtFault::Audience,
            ErrorKind::InvalidSignature | ErrorKind::InvalidAlgorithm => JwtFault::Signature,
            _ => JwtFault::Malformed,
        }
    }
}

impl From<JwtFault> for Refusal {
    fn from(fault: JwtFault) -> Self {
        let not_now = |reason| Refusal::NotNow { reason, minutes: 1 };
        match fault {
            JwtFault::Missing => Refusal::Denied("jwt is missing: this tracker needs a token in the announce URL"),
            JwtFault::Malformed => Refusal::Denied("jwt is not a token"),
            JwtFault::NoKeys => not_now("jwt cannot be checked now: the tracker has no keys yet"),
            JwtFault::UnknownKey => not_now("jwt is signed with a key that the tracker does not know"),
            JwtFault::Signature => Refusal::Denied("jwt has a wrong signature"),
            JwtFault::Issuer => Refusal::Denied("jwt has no issuer that the tracker accepts"),
            JwtFault::Audience => Refusal::Denied("jwt is not for this tracker"),
            JwtFault::InfoHash => Refusal::Denied("jwt names no torrent"),
            JwtFault::OtherTorrent => Refusal::Denied("jwt is for another torrent"),
            JwtFault::NoExpiry => Refusal::Denied("jwt has no expiry, which this tracker requires"),
            JwtFault::Expired => Refusal::Denied("jwt has expired: get the torrent again"),
            JwtFault::NotYet => not_now("jwt is not valid yet"),
            JwtFault::TooMany => not_now("jwt was not checked: too many wrong tokens in this second"),
        }
    }
}
