//! Announce and scrape over HTTP.

mod announce;
pub mod client_address;
pub mod connection;
mod reply;
mod request_line;
mod scrape;

use actix_web::http::header::{HeaderMap, HeaderValue};
use actix_web::{HttpRequest, web};

use self::client_address::{Client, Headers, Source};
use super::{Context, get};

/// GET and HEAD only. Everything else is 405.
pub fn routes(config: &mut web::ServiceConfig) {
    for path in ["/announce", "/announce.php"] {
        let resource = web::resource(path).route(get().to(announce::announce));
        config.service(resource.default_service(web::to(reply::method_not_allowed)));
    }
    for path in ["/scrape", "/scrape.php"] {
        let resource = web::resource(path).route(get().to(scrape::scrape));
        config.service(resource.default_service(web::to(reply::method_not_allowed)));
    }
}

/// Who sent this request.
fn client(request: &HttpRequest, context: &Context) -> Client {
    context.client_address.of(Source::new(request.peer_addr()), request.headers(), &context.metrics)
}

impl Headers for HeaderMap {
    fn lines<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.get_all(name).map(HeaderValue::as_bytes)
    }
}
