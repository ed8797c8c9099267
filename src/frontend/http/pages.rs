//! Answers all requests except announces and scrapes by calling actix-web's routes. The fast path parses the request
//! and frames the reply, so only one parser reads a connection.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::SystemTime;

use actix_http::Request;
use actix_service::{IntoServiceFactory, Service, ServiceFactory};
use actix_web::HttpMessage as _;
use actix_web::body::{BoxBody, to_bytes};
use actix_web::dev::{AppConfig, ServiceResponse};
use actix_web::http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, DATE, HeaderName, HeaderValue, HttpDate, TRANSFER_ENCODING,
};
use actix_web::http::{Method, Uri};
use actix_web::{App, Error};
use futures::future::LocalBoxFuture;

use super::framing::ReplyFraming;
use super::head::{self, Head};
use crate::frontend::admin;
use crate::frontend::context::Context;
use crate::frontend::headers::Headers as _;
use crate::frontend::listen::Audience;

/// Headers of every page. They forbid the browser to guess another content type, to let other sites load our pages
/// (Fetch Standard, "CORP"), and to tell other sites our addresses. There are no CORS headers: no other site may read
/// our pages.
const GUARD: &str = "x-content-type-options: nosniff\r\n\
                     cross-origin-resource-policy: same-origin\r\n\
                     referrer-policy: no-referrer\r\n";

/// The policy of pages without their own (Content Security Policy Level 3). They may load only their own style and this
/// tracker's images.
const POLICY: &str = "content-security-policy: default-src 'none'; style-src 'unsafe-inline'; img-src 'self'; \
                      base-uri 'none'; form-action 'self'; frame-ancestors 'none'\r\n";

/// The routes, set up for one worker.
pub(in crate::frontend) struct Pages {
    clients: Routes,
    /// The routes of listeners for operators. `None` if there are no such listeners.
    operators: Option<Routes>,
    /// The routes of listeners for shared blobs. `None` if shared blobs are switched off.
    torrents: Option<Routes>,
}

type Routes = Box<dyn Fn(Request) -> LocalBoxFuture<'static, Result<ServiceResponse, Error>>>;

impl Pages {
    /// Sets up the routes. `None` if that fails.
    pub(in crate::frontend) async fn new(context: &Arc<Context>) -> Option<Self> {
        let clients = Self::routes(context, Audience::Clients).await?;
        let mut operators = None;
        if context.has_admin_listener() {
            operators = Some(Self::routes(context, Audience::Operators).await?);
        }
        let mut torrents = None;
        if context.torrents.is_some() {
            torrents = Some(Self::routes(context, Audience::Torrents).await?);
        }
        Some(Self { clients, operators, torrents })
    }

    async fn routes(context: &Arc<Context>, audience: Audience) -> Option<Routes> {
        let app = App::new().configure(|config| admin::routes(context, audience, config));
        let service = app.into_factory().new_service(AppConfig::default()).await.ok()?;
        Some(Box::new(move |request| Box::pin(service.call(request))))
    }

    pub(super) async fn reply(&self, audience: Audience, request: Request, framing: ReplyFraming, out: &mut Vec<u8>) {
        let routes = match audience {
            Audience::Clients => None,
            Audience::Operators => self.operators.as_ref(),
            Audience::Torrents => self.torrents.as_ref(),
        };
        let routes = routes.unwrap_or(&self.clients);
        let response = match routes(request).await {
            Ok(response) => response.into_parts().1,
            Err(error) => error.error_response(),
        };
        let (response, body) = response.into_parts();
        let Ok(body) = to_bytes::<BoxBody>(body).await else {
            return framing.put_plain("500 Internal Server Error", "", b"The page could not be made.\n", out);
        };
        let mut headers = String::new();
        for (name, value) in response.headers() {
            let is_ours = [CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING].contains(name);
            if let Some(value) = value.to_str().ok().filter(|_| !is_ours) {
                let _ = write!(headers, "{name}: {value}\r\n");
            }
        }
        headers.push_str(GUARD);
        if !response.headers().contains_key(CONTENT_SECURITY_POLICY) {
            headers.push_str(POLICY);
        }
        let _ = write!(headers, "date: {}\r\n", HttpDate::from(SystemTime::now()));
        framing.put(&response.status().to_string(), &headers, &body, out);
    }
}

/// Converts a request to actix-web's type, and marks it if it came over TLS. `None` if actix-web refuses it.
pub(super) fn request(head: &Head<'_>, is_tls: bool) -> Option<Request> {
    let mut request = Request::new();
    if is_tls {
        request.extensions_mut().insert(admin::OverTls);
    }
    let head_of = request.head_mut();
    head_of.method = match head.method {
        head::Method::Get => Method::GET,
        head::Method::Head => Method::HEAD,
        head::Method::Other(name) => Method::from_bytes(name).ok()?,
    };
    head_of.uri = uri(head)?;
    for (name, value) in head.lines() {
        let name = HeaderName::from_bytes(name).ok().zip(HeaderValue::from_bytes(value).ok());
        if let Some((name, value)) = name {
            head_of.headers.append(name, value);
        }
    }
    Some(request)
}

/// The path and the query as a URI. Bytes that a URI cannot contain are escaped.
fn uri(head: &Head<'_>) -> Option<Uri> {
    let path = if head.path.is_empty() { b"/" } else { head.path };
    let mut text = String::with_capacity(path.len() + head.query.len() + 1);
    let mut put = |bytes: &[u8]| {
        for &byte in bytes {
            if byte.is_ascii_graphic() && !b"\"<>#\\^`{|}".contains(&byte) {
                text.push(char::from(byte));
            } else {
                let _ = write!(text, "%{byte:02X}");
            }
        }
    };
    put(path);
    if !head.query.is_empty() {
        put(b"?");
        put(head.query);
    }
    Uri::try_from(text).ok()
}
