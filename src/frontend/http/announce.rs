//! `/announce`: extract, call once, reply.

use actix_web::http::header::{HeaderValue, USER_AGENT, VIA};
use actix_web::{HttpRequest, HttpResponse, web};

use super::client_address::Client;
use super::{client, reply};
use crate::frontend::Context;
use crate::tracker::Caller;
use crate::wire::announce as wire;
use crate::wire::via::Via;

pub(super) async fn announce(request: HttpRequest, context: web::Data<Context>) -> HttpResponse {
    let metrics = &context.metrics;
    let _timer = metrics.time_announce();
    metrics.announce_arrived();
    let Client { ip, may_claim } = client(&request, &context);
    let user_agent = request.headers().get(USER_AGENT).map(HeaderValue::as_bytes);
    let result = match wire::parse(request.query_string().as_bytes()) {
        Ok((announce, format)) => {
            let via = Via::parse(request.headers().get_all(VIA).map(HeaderValue::as_bytes));
            let caller = Caller { ip, may_claim, user_agent, via: &via };
            context.tracker.announce(caller, &announce).await.map(|reply| wire::encode(&reply, format))
        }
        Err(refusal) => Err(refusal),
    };
    match &result {
        Ok(_) => metrics.announces_answered.inc(),
        Err(_) => metrics.announces_refused.inc(),
    };
    reply::bencoded("announce", ip, result, &context)
}
