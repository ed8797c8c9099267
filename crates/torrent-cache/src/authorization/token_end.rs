//! Reads when a client's token ends.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderValue;
use serde::Deserialize;

#[derive(Deserialize)]
struct TokenClaims {
    exp: Option<f64>,
}

/// Returns how long the token in an `Authorization` header is still valid, if it is a JWT with `exp` (RFC 7519, section
/// 4.1.4). The signature is not verified, because the time can only shorten how long a grant is kept. `now` is the time
/// since 1970.
pub(super) fn remaining(authorization: &HeaderValue, now: Duration) -> Option<Duration> {
    let (scheme, token) = authorization.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let claims = token.trim().split('.').nth(1)?;
    let claims = URL_SAFE_NO_PAD.decode(claims.trim_end_matches('=')).ok()?;
    let end = serde_json::from_slice::<TokenClaims>(&claims).ok()?.exp?;
    // A token with a time before 1970 has ended. A time too far in the future for a `Duration` is no limit.
    match Duration::try_from_secs_f64(end) {
        Ok(end) => Some(end.saturating_sub(now)),
        Err(_) if end < 0.0 => Some(Duration::ZERO),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn left(claims: &str) -> Option<u64> {
        let token = format!("Bearer e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims));
        remaining(&HeaderValue::try_from(token).unwrap(), Duration::from_secs(1000)).map(|left| left.as_secs())
    }

    #[test]
    fn a_jwt_tells_its_end() {
        assert_eq!(left(r#"{"exp":1030}"#), Some(30));
        assert_eq!(left(r#"{"exp":1030.5,"sub":"x"}"#), Some(30));
        assert_eq!(left(r#"{"exp":1000}"#), Some(0));
        assert_eq!(left(r#"{"exp":1}"#), Some(0));
        assert_eq!(left(r#"{"exp":-1}"#), Some(0));
        assert_eq!(left(r#"{"exp":1e300}"#), None);
        assert_eq!(left(r#"{"exp":"soon"}"#), None);
        assert_eq!(left(r#"{"sub":"x"}"#), None);
        assert_eq!(left("x"), None);
        for other in ["Basic dTpw", "Bearer opaque", "Bearer", "Bearer a.b.c", "Bearer ..", ""] {
            assert_eq!(remaining(&HeaderValue::from_static(other), Duration::ZERO), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn any_token_is_read(token: String) {
            if let Ok(value) = HeaderValue::try_from(format!("Bearer {token}")) {
                remaining(&value, Duration::ZERO);
            }
            left(&token);
        }
    }
}
