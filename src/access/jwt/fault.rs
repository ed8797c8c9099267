//! Why a token is not accepted. The sentences for clients are in [`crate::access::RefusalWording`].

use jsonwebtoken::errors::ErrorKind;

/// The label of tokens that were not checked, because too many had failed.
pub(in crate::access) const TOO_MANY: &str = "too_many";

/// Why a token is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::access) enum JwtFault {
    Missing,
    /// The query has a `jwt` without a value.
    Empty,
    TooLong,
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
    pub(in crate::access) const ALL: [Self; 15] = [
        Self::Missing,
        Self::Empty,
        Self::TooLong,
        Self::Malformed,
        Self::NoKeys,
        Self::UnknownKey,
        Self::Signature,
        Self::Issuer,
        Self::Audience,
        Self::InfoHash,
        Self::OtherTorrent,
        Self::NoExpiry,
        Self::Expired,
        Self::NotYet,
        Self::TooMany,
    ];

    /// Returns the fault's name in metrics.
    pub(in crate::access) fn label(self) -> &'static str {
        match self {
            Self::Missing | Self::Empty => "missing",
            Self::TooLong => "too_long",
            Self::Malformed => "malformed",
            Self::NoKeys => "no_keys",
            Self::UnknownKey => "unknown_key",
            Self::Signature => "signature",
            Self::Issuer => "issuer",
            Self::Audience => "audience",
            Self::InfoHash => "no_torrent",
            Self::OtherTorrent => "other_torrent",
            Self::NoExpiry => "no_expiry",
            Self::Expired => "expired",
            Self::NotYet => "not_yet",
            Self::TooMany => TOO_MANY,
        }
    }

    /// Converts an error of the library.
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
