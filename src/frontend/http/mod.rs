//! Announce and scrape over HTTP.

mod announce;
pub mod client_address;
pub mod connection;
mod reply;
mod request_line;
mod scrape;

use actix_web::web;

use super::get;

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
