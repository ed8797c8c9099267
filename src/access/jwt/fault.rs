//! Why a token is not accepted. The sentences for clients are in [`crate::access::RefusalWording`].

use jsonwebtoken::errors::ErrorKind;

/// Why a token is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::access) enum JwtFault {
    Missing,
    /// There is a `jwt` without a value.
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
