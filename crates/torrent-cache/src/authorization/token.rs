//! Gets tokens with our own login (the distribution project's "Token Authentication" and its OAuth 2 form).

use std::time::Duration;

use http::HeaderValue;
use serde::Deserialize;
use url::Url;
use url::form_urlencoded::Serializer;

use super::login::RegistryLogin;
use crate::upstream::{
    Ask, AskHeaders, AskMethod, FetchClient, FetchError, FetchFault, Redirects, UpstreamOrigin, UpstreamScheme,
};

/// The largest reply of a token service, in bytes.
const MAX_REPLY: usize = 64 << 10;

/// How long the body of a token service's reply may take.
const REPLY_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a token is valid, in seconds, if the token service does not say.
const DEFAULT_LIFETIME: u64 = 60;

/// How long a token is used at most, in seconds.
const MAX_LIFETIME: u64 = 3600;

/// What a token service replies.
#[derive(Deserialize)]
struct TokenReply {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

/// A token as the value of `Authorization`, and how long to use the token.
#[derive(Debug)]
pub(super) struct RegistryToken {
    pub(super) value: HeaderValue,
    pub(super) lifetime: Duration,
}

/// Gets a token to pull from one repository.
pub(super) async fn get_token(
    client: &FetchClient,
    origin: &UpstreamOrigin,
    repository: &str,
    (realm, service): (&str, Option<&str>),
    login: &RegistryLogin,
) -> Result<RegistryToken, FetchError> {
    let failed = |server: &UpstreamOrigin, what: String| FetchError {
        server: server.to_string(),
        fault: FetchFault::Token(what),
    };
    let (url, server) = token_service(client, origin, realm).map_err(|what| failed(origin, what))?;
    let scope = format!("repository:{repository}:pull");
    let service = service.map(|service| ("service", service));
    // The ping has no repository, so its token has no scope.
    let scope = Some(("scope", scope.as_str())).filter(|_| !repository.is_empty());
    let wanted = service.into_iter().chain(scope);
    let (method, headers, path) = match login {
        RegistryLogin::Password(value) => {
            let headers = AskHeaders::default().with_authorization(Some(value.clone()));
            let mut url = url;
            url.query_pairs_mut().extend_pairs(wanted);
            (AskMethod::Get, headers, path_and_query(&url))
        }
        RegistryLogin::Identity(token) => {
            let own = [("grant_type", "refresh_token"), ("refresh_token", token), ("client_id", "torrent-cache")];
            let form = Serializer::new(String::new()).extend_pairs(own).extend_pairs(wanted).finish();
            (AskMethod::PostForm(form), AskHeaders::default(), path_and_query(&url))
        }
    };
    let ask = Ask { method, origin: &server, path_and_query: &path, headers: &headers, redirects: Redirects::Follow };
    let reply = client.send(ask).await?;
    if reply.status != 200 {
        return Err(failed(&server, format!("the token service answered with status {}", reply.status.as_u16())));
    }
    let body = reply.body.collect(MAX_REPLY, REPLY_TIMEOUT).await?;
    read_token(&body).ok_or_else(|| failed(&server, "the token service's reply holds no token".to_owned()))
}

/// Returns the token service that an upstream names. The rules for redirects apply. In addition, a service over http
/// must itself be listed.
fn token_service(client: &FetchClient, origin: &UpstreamOrigin, realm: &str) -> Result<(Url, UpstreamOrigin), String> {
    let (url, server) = client.target(origin, realm).map_err(|fault| format!("its realm is refused: {fault}"))?;
    let is_listed = client.upstreams().all().any(|listed| *listed == server);
    if server.scheme() == UpstreamScheme::Http && !is_listed {
        return Err(format!("its realm is refused: {server} is not https and not listed"));
    }
    Ok((url, server))
}

fn path_and_query(url: &Url) -> String {
    let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
    format!("{}{query}", url.path())
}

fn read_token(body: &[u8]) -> Option<RegistryToken> {
    let reply: TokenReply = serde_json::from_slice(body).ok()?;
    let token = reply.token.or(reply.access_token).filter(|token| !token.is_empty())?;
    let mut value = HeaderValue::try_from(format!("Bearer {token}")).ok()?;
    value.set_sensitive(true);
    let lifetime = Duration::from_secs(reply.expires_in.unwrap_or(DEFAULT_LIFETIME).min(MAX_LIFETIME));
    // The token is used for less than its lifetime, because it could end on the way to the upstream.
    Some(RegistryToken { value, lifetime: lifetime.saturating_sub((lifetime / 4).min(Duration::from_secs(10))) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tokens_are_read() {
        for (reply, value, lifetime) in [
            (r#"{"token":"a","expires_in":300}"#, "Bearer a", 290),
            (r#"{"access_token":"a","token":"b"}"#, "Bearer b", 50),
            (r#"{"access_token":"a","expires_in":20}"#, "Bearer a", 15),
            (r#"{"token":"a","expires_in":999999999}"#, "Bearer a", 3590),
            (r#"{"token":"a","expires_in":0}"#, "Bearer a", 0),
        ] {
            let token = read_token(reply.as_bytes()).unwrap();
            assert_eq!((token.value.to_str().unwrap(), token.lifetime.as_secs()), (value, lifetime), "{reply}");
            assert!(!format!("{token:?}").contains(value));
        }
        for wrong in ["", "{}", "[]", r#"{"token":""}"#, r#"{"token":"a\r\nX: y"}"#, r#"{"token":"a","expires_in":-1}"#]
        {
            assert!(read_token(wrong.as_bytes()).is_none(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn any_reply_is_read(reply: Vec<u8>) {
            read_token(&reply);
        }
    }
}
