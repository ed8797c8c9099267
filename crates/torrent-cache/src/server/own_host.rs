//! Tells requests of programs from requests of web pages in a browser. An attacker's page whose name resolves to this
//! host (DNS rebinding) can read our replies. So a request that may come from a page must not use our own logins.

use std::net::IpAddr;

use actix_http::header::{HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN};
use actix_http::uri::Authority;
use actix_http::{HttpMessage as _, Request};

/// The header in which browsers say which site's page sends a request.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// The header in which browsers say what a request is for, such as `navigate` for a link.
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// Whether a request comes from a program, not from a web page. Such a request has neither `Origin` nor
/// `Sec-Fetch-Site`. It also has the absolute form, which no page can send, or a `Host` that names this host.
pub(super) fn is_of_a_program(request: &Request) -> bool {
    let names_us = || request.uri().authority().is_some() || names_this_host(request.headers());
    !request.headers().contains_key(ORIGIN) && !request.headers().contains_key(SEC_FETCH_SITE) && names_us()
}

/// Whether the reply is safe from web pages of other sites. It is safe if `Host` names this host and no script of
/// another site sent the request.
pub(super) fn is_unreadable_for_other_sites(request: &Request) -> bool {
    let site = request.headers().get(SEC_FETCH_SITE).map(HeaderValue::as_bytes);
    // A browser shows the target of a link, but the page with the link cannot read the target.
    let is_link = request.headers().get(SEC_FETCH_MODE).is_some_and(|mode| mode == "navigate");
    let is_own_site = matches!(site, None | Some(b"none" | b"same-origin"));
    !request.headers().contains_key(ORIGIN) && (is_own_site || is_link) && names_this_host(request.headers())
}

/// Whether there is exactly one `Host`, and it is an address, a name without a dot such as `localhost`, or this host's
/// own name. An attacker cannot make such a name resolve to this host. The tracker has the same rule.
fn names_this_host(headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(HOST);
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
    let Ok(host) = Authority::try_from(host.as_bytes()) else { return false };
    let name = host.host().trim_end_matches('.');
    let is_address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok();
    let own = rustix::system::uname();
    let is_own = || own.nodename().to_str().is_ok_and(|own| !own.is_empty() && name.eq_ignore_ascii_case(own));
    is_address || (!name.is_empty() && !name.contains('.')) || is_own()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names_us(hosts: &[&str]) -> bool {
        let mut headers = HeaderMap::new();
        hosts.iter().for_each(|host| headers.append(HOST, HeaderValue::from_str(host).unwrap()));
        names_this_host(&headers)
    }

    #[test]
    fn only_addresses_and_own_names_name_this_host() {
        let own = rustix::system::uname().nodename().to_str().unwrap().to_uppercase();
        for host in [
            "127.0.0.1",
            "127.0.0.1:8888",
            "[::1]:8888",
            "10.0.0.1:1",
            "localhost",
            "LocalHost.:8888",
            "cache:8888",
            &own,
        ] {
            assert!(names_us(&[host]), "{host}");
        }
        for hosts in [
            &["evil.example"][..],
            &["evil.example:8888"],
            &["127.0.0.1.evil.example"],
            &["localhost.evil.example"],
            &["localhost", "localhost"],
            &["evil.example", "localhost"],
            &[""],
            &["a b"],
            &[],
        ] {
            assert!(!names_us(hosts), "{hosts:?}");
        }
    }
}
