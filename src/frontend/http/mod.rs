//! Announce and scrape over HTTP.
//!
//! A connection over TCP begins on the hot path ([`front`]), which reads announces and scrapes itself and answers them
//! without a detour. With the first request that is not one of those the connection goes to actix-web, where the same
//! `answer` is given; connections over Unix sockets begin there.

mod actix;
mod answer;
pub mod connection;
pub mod front;
mod head;
mod request_line;
pub mod socket;

use actix_web::web;

use super::get;

/// GET and HEAD only. Everything else is 405.
pub fn routes(config: &mut web::ServiceConfig) {
    for path in ["/announce", "/announce.php"] {
        let resource = web::resource(path).route(get().to(actix::announce));
        config.service(resource.default_service(web::to(actix::method_not_allowed)));
    }
    for path in ["/scrape", "/scrape.php"] {
        let resource = web::resource(path).route(get().to(actix::scrape));
        config.service(resource.default_service(web::to(actix::method_not_allowed)));
    }
}
