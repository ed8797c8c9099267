//! Errors in the form that registries' clients read and show (OCI Distribution Specification, "Error Codes").

use serde::Serialize;

use super::path::PathRefusal;
use super::query::QueryFault;

/// The kinds of errors. Each kind has one status code and one error code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegistryErrorKind {
    /// The specification has no such request.
    BadRequest,
    /// The client must log in: 401. The reply needs a `WWW-Authenticate` header.
    Unauthorized,
    /// The cache's own rules, such as the list of upstreams, forbid the request: 403.
    Denied,
    /// The repository's name is not valid.
    NameInvalid,
    /// The digest is not valid.
    DigestInvalid,
    /// There is no manifest with this tag or digest.
    ManifestUnknown,
    /// There is no blob with this digest.
    BlobUnknown,
    /// The path does not exist.
    NotFound,
    /// The cache does not support this method or path, such as those of a push.
    Unsupported,
    /// The path or the query is too long.
    TooLong,
    /// The range is outside the blob. The reply needs a `Content-Range` header.
    RangeInvalid,
    /// The upstream limits requests. The reply should have a `Retry-After` header.
    TooManyRequests,
    /// This cache failed.
    Internal,
    /// The upstream cannot be reached, or its reply is wrong.
    UpstreamWrong,
    /// This cache cannot take the request now.
    Busy,
    /// The upstream did not answer in time.
    UpstreamLate,
}

impl RegistryErrorKind {
    /// Returns the HTTP status code.
    pub fn status(self) -> u16 {
        match self {
            Self::BadRequest | Self::NameInvalid | Self::DigestInvalid => 400,
            Self::Unauthorized => 401,
            Self::Denied => 403,
            Self::ManifestUnknown | Self::BlobUnknown | Self::NotFound => 404,
            Self::Unsupported => 405,
            Self::TooLong => 414,
            Self::RangeInvalid => 416,
            Self::TooManyRequests => 429,
            Self::Internal => 500,
            Self::UpstreamWrong => 502,
            Self::Busy => 503,
            Self::UpstreamLate => 504,
        }
    }

    /// Returns the code in the body. The specification has no codes for ranges and upstream errors, so these have the
    /// codes that Docker's registry uses.
    pub fn code(self) -> &'static str {
        match self {
            Self::Unauthorized => "UNAUTHORIZED",
            Self::Denied => "DENIED",
            Self::NameInvalid => "NAME_INVALID",
            Self::DigestInvalid => "DIGEST_INVALID",
            Self::ManifestUnknown => "MANIFEST_UNKNOWN",
            Self::BlobUnknown => "BLOB_UNKNOWN",
            Self::BadRequest | Self::NotFound | Self::Unsupported | Self::TooLong => "UNSUPPORTED",
            Self::RangeInvalid => "RANGE_INVALID",
            Self::TooManyRequests => "TOOMANYREQUESTS",
            Self::Internal => "UNKNOWN",
            Self::UpstreamWrong | Self::Busy | Self::UpstreamLate => "UNAVAILABLE",
        }
    }
}

/// An error for a client: a status code and a JSON body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryError {
    /// What went wrong.
    pub kind: RegistryErrorKind,
    /// One sentence that says what the user can do. Clients show this sentence unchanged.
    pub message: String,
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    errors: [ErrorDetail<'a>; 1],
}

#[derive(Serialize)]
struct ErrorDetail<'a> {
    code: &'static str,
    message: &'a str,
}

impl RegistryError {
    /// The media type of the body.
    pub const MEDIA_TYPE: &'static str = "application/json";

    /// Makes an error of this kind.
    pub fn new(kind: RegistryErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// Returns the HTTP status code.
    pub fn status(&self) -> u16 {
        self.kind.status()
    }

    /// Returns the body, such as `{"errors":[{"code":"DENIED","message":"…"}]}`.
    pub fn body(&self) -> String {
        let errors = [ErrorDetail { code: self.kind.code(), message: &self.message }];
        // Writing text to memory does not fail.
        serde_json::to_string(&ErrorBody { errors }).unwrap_or_default()
    }
}

impl From<PathRefusal> for RegistryError {
    fn from(refusal: PathRefusal) -> Self {
        let kind = match &refusal {
            PathRefusal::Name(_) => RegistryErrorKind::NameInvalid,
            PathRefusal::Digest(_) => RegistryErrorKind::DigestInvalid,
            PathRefusal::Tag(_) => RegistryErrorKind::ManifestUnknown,
            PathRefusal::TooLong | PathRefusal::Query(QueryFault::TooLong) => RegistryErrorKind::TooLong,
            PathRefusal::Query(_) => RegistryErrorKind::BadRequest,
            PathRefusal::NotListed(_) => RegistryErrorKind::Denied,
            PathRefusal::Upload | PathRefusal::Catalog => RegistryErrorKind::Unsupported,
            PathRefusal::Unknown => RegistryErrorKind::NotFound,
        };
        Self::new(kind, refusal.to_string())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_body_has_the_form_of_the_specification() {
        let error = RegistryError::new(RegistryErrorKind::Denied, "say \"please\"");
        assert_eq!(error.status(), 403);
        assert_eq!(error.body(), r#"{"errors":[{"code":"DENIED","message":"say \"please\""}]}"#);
    }

    #[test]
    fn a_refused_path_has_its_code() {
        let refused = |refusal: PathRefusal| {
            let error = RegistryError::from(refusal);
            (error.status(), error.kind.code())
        };
        assert_eq!(refused(PathRefusal::Upload), (405, "UNSUPPORTED"));
        assert_eq!(refused(PathRefusal::Unknown), (404, "UNSUPPORTED"));
        assert_eq!(refused(PathRefusal::TooLong), (414, "UNSUPPORTED"));
        assert_eq!(refused(PathRefusal::Query(QueryFault::TooLong)), (414, "UNSUPPORTED"));
        assert_eq!(refused(PathRefusal::Query(QueryFault::Namespace)), (400, "UNSUPPORTED"));
        assert_eq!(refused(PathRefusal::NotListed("quay.io".into())), (403, "DENIED"));
    }

    proptest! {
        #[test]
        fn any_message_is_read_as_it_was_written(message: String) {
            let body = RegistryError::new(RegistryErrorKind::Internal, &*message).body();
            let read: serde_json::Value = serde_json::from_str(&body).unwrap();
            prop_assert_eq!(read["errors"][0]["message"].as_str(), Some(&*message));
            prop_assert_eq!(read["errors"].as_array().map(Vec::len), Some(1));
        }
    }
}
