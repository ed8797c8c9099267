//! One HTTP request.

use std::net::SocketAddr;

use actix_web::web::Bytes;
use awc::error::{PayloadError, SendRequestError};
use awc::http::Uri;
use awc::http::header::{self, ACCEPT_ENCODING, HOST, HeaderValue, VIA};
use awc::{ClientRequest, ClientResponse};
use futures::Stream;
use tokio::time::Instant;

use super::awc_client::{self, ConnectRoute, send_error};
use super::route::UpstreamRoute;
use crate::forward::error::ForwardError;
use crate::forward::headers::PassedHeaders;

/// A request, without the address that it is sent to.
pub(super) struct HttpRequest<'a> {
    pub(super) tls: bool,
    pub(super) uri: Uri,
    pub(super) host: HeaderValue,
    pub(super) login: Option<&'a (String, String)>,
    pub(super) cookies: Option<HeaderValue>,
    pub(super) headers: &'a PassedHeaders,
}

impl HttpRequest<'_> {
    /// Sends the request to the first address that accepts a connection. Returns that address and the response's head.
    pub(super) async fn send(
        &self,
        route: &UpstreamRoute,
        deadline: Instant,
    ) -> Result<(ClientResponse<impl Stream<Item = Result<Bytes, PayloadError>> + use<>>, SocketAddr), ForwardError>
    {
        let client = awc_client::client().map_err(ForwardError::Local)?;
        let mut failure: Option<ForwardError> = None;
        for (tried, &address) in route.addresses.iter().enumerate() {
            // Any other empty body would add `Content-Length: 0`, which some trackers refuse with GET.
            let exchange = self.build(&client, route, address).send_body(awc::body::None::new());
            let left = u32::try_from(route.addresses.len() - tried).unwrap_or(u32::MAX);
            // An address that does not answer must leave time for the others.
            let share = deadline.saturating_duration_since(Instant::now()) / left;
            let connect_by = (left > 1).then(|| Instant::now() + share);
            let connect = ConnectRoute { connect_by, ..route.connect.clone() };
            let failed = |error| match (send_error(error), &route.proxy) {
                (ForwardError::Connect(what), Some(proxy)) => proxy.error(format_args!("it cannot be reached: {what}")),
                (error, _) => error,
            };
            let error = match awc_client::with_route(connect, exchange).await {
                Ok(response) => return Ok((response, address)),
                Err(SendRequestError::Connect(error)) => failed(SendRequestError::Connect(error)),
                Err(error) => return Err(failed(error)),
            };
            if !matches!(error, ForwardError::Connect(_) | ForwardError::Local(_) | ForwardError::Proxy(_)) {
                return Err(error);
            }
            failure = Some(error.after(failure));
        }
        Err(failure.unwrap_or_else(|| ForwardError::Dns("it has no address".to_owned())))
    }

    fn build(&self, client: &awc::Client, route: &UpstreamRoute, address: SocketAddr) -> ClientRequest {
        let mut request = client
            .get(&self.uri)
            .address(address)
            // The connection serves only one request: an odd reply may leave the connection in an unknown state.
            .force_close()
            // Some trackers compare header names byte by byte and expect this spelling.
            .camel_case()
            .insert_header((HOST, self.host.clone()))
            .insert_header((header::USER_AGENT, self.headers.user_agent.clone()))
            .insert_header((ACCEPT_ENCODING, HeaderValue::from_static("gzip")));
        if let Some(via) = &self.headers.via {
            request = request.insert_header((VIA, via.clone()));
        }
        if let Some((user, password)) = self.login {
            request = request.basic_auth(user, password);
        }
        if let Some(cookies) = &self.cookies {
            request = request.insert_header((header::COOKIE, cookies.clone()));
        }
        if let Some(authorization) = &route.authorization {
            request = request.insert_header((header::PROXY_AUTHORIZATION, authorization.as_str()));
        }
        request
    }
}
