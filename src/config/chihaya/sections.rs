//! The sections `http` and `udp` of v2.

use std::path::PathBuf;
use std::time::Duration;

use super::keys::Keys;
use super::lint::{Lint, Outcome};
use super::model::{ChihayaHttp, ChihayaTls, ChihayaUdp, HttpTimeouts, PrivateKey, RequestRules};
use super::outcomes;
use super::scalars::{self, Parsed, duration, seconds, switch, text, texts, whole};
use super::tree::{ConfigNode, Place};
use crate::frontend::listen::Listen;
use crate::frontend::routes::RoutePattern;
use crate::frontend::udp::connection_id::MAX_CLOCK_SKEW;

/// The numbers of peers and torrents in replies. `None` if the file gives no number.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Numbers {
    pub(super) max_numwant: Option<u32>,
    pub(super) default_numwant: Option<u32>,
    pub(super) max_scrape: Option<u32>,
}

/// The keys of [`Numbers`].
pub(super) const NUMBERS: [&str; 3] = [MAX_NUMWANT.0, "default_numwant", MAX_SCRAPE.0];

/// A key, its default, and what the number counts.
type NumberKey = (&'static str, u32, &'static str);
pub(super) const MAX_NUMWANT: NumberKey = ("max_numwant", 100, "peers in a reply at most");
const MAX_SCRAPE: NumberKey = ("max_scrape_infohashes", 50, "torrents in a scrape at most");

impl Numbers {
    pub(super) fn read(keys: &mut Keys<'_>, lint: &mut Lint) -> Self {
        let max_numwant = number(keys, lint, MAX_NUMWANT);
        let default_numwant =
            keys.read(lint, "default_numwant", counted(50), |number| outcomes::default_numwant(*number));
        Self { max_numwant, default_numwant, max_scrape: number(keys, lint, MAX_SCRAPE) }
    }

    fn or(self, other: Self) -> Self {
        Self {
            max_numwant: self.max_numwant.or(other.max_numwant),
            default_numwant: self.default_numwant.or(other.default_numwant),
            max_scrape: self.max_scrape.or(other.max_scrape),
        }
    }

    fn rules(self, ip_spoofing: bool, is_rc1: bool) -> RequestRules {
        let max_numwant = self.max_numwant.unwrap_or(MAX_NUMWANT.1);
        RequestRules {
            ip_spoofing,
            max_numwant: Some(max_numwant),
            default_numwant: self.default_numwant.unwrap_or(50).min(max_numwant),
            // rc.1 answers scrapes of any size.
            max_scrape: if is_rc1 { None } else { Some(self.max_scrape.unwrap_or(MAX_SCRAPE.1)) },
        }
    }
}

pub(super) fn number(keys: &mut Keys<'_>, lint: &mut Lint, key: NumberKey) -> Option<u32> {
    let (key, default, what) = key;
    keys.read(lint, key, counted(default), |number| Outcome::Becomes(format!("{number} {what}")))
}

/// Parses a number. Zero means the default, as in Chihaya.
fn counted(default: u32) -> impl Fn(&ConfigNode) -> Parsed<u32> {
    move |node| {
        let expected = "a whole number from 0 to 4294967295";
        match u32::try_from(whole(node).map_err(|_| expected)?).map_err(|_| expected)? {
            0 => Ok(default),
            number => Ok(number),
        }
    }
}

/// Reads `http`. Returns `None` if there is no address to listen on.
pub(super) fn http(keys: &mut Keys<'_>, lint: &mut Lint, is_rc1: bool, common: Numbers) -> Option<ChihayaHttp> {
    let (mut http, entry) = keys.section(lint, "http")?;
    let keys = &mut http;
    let plain = read_listen(keys, lint, "addr");
    let (listen, tls) = if is_rc1 {
        keys.later(lint, &["https_addr", "tls_cert_path", "tls_key_path"], RC1);
        (plain, None)
    } else {
        tls(keys, lint, plain, entry.place)
    };
    let timeouts = timeouts(keys, lint, is_rc1);
    let keep_alive = keep_alive(keys, lint, is_rc1);
    let announce_routes = routes(keys, lint, is_rc1, "announce_routes", "/announce");
    let scrape_routes = routes(keys, lint, is_rc1, "scrape_routes", "/scrape");
    let ip_spoofing = ip_spoofing(keys, lint);
    let parse = |node: &ConfigNode| Ok((text(node)?, scalars::header(&text(node)?)?));
    let header = keys.read(lint, "real_ip_header", parse, |(name, header)| {
        header.as_ref().map_or_else(outcomes::no_header, |_| outcomes::real_ip_header(name, is_rc1))
    });
    let numbers = own_numbers(keys, lint, is_rc1);
    http.finish(lint);
    if listen.is_none() && tls.is_none() {
        lint.warns(entry.place, "http has no address, and nothing listens for HTTP");
        return None;
    }
    Some(ChihayaHttp {
        listen,
        tls,
        timeouts,
        keep_alive,
        max_connections: None,
        announce_routes,
        scrape_routes,
        real_ip_header: header.and_then(|(_, header)| header),
        requests: numbers.or(common).rules(ip_spoofing, is_rc1),
    })
}

const RC1: &str = "v2.0.0-rc.1";

fn read_listen(keys: &mut Keys<'_>, lint: &mut Lint, key: &'static str) -> Option<Listen> {
    let parse = |node: &ConfigNode| scalars::listen(&text(node)?);
    keys.read(lint, key, parse, |listen| outcomes::listen(listen.as_ref(), "--listen")).flatten()
}

/// Reads the addresses without and with TLS. rc.2 has no `https_addr`: with a certificate, its `addr` is for HTTPS.
fn tls(
    keys: &mut Keys<'_>,
    lint: &mut Lint,
    plain: Option<Listen>,
    place: Place,
) -> (Option<Listen>, Option<ChihayaTls>) {
    let outcome = |listen: &Option<Listen>| match listen {
        None => Outcome::Becomes("no listener for https".to_owned()),
        Some(listen) => Outcome::Becomes(format!("listens for https on {listen}")),
    };
    let https = keys.read(lint, "https_addr", |node| scalars::listen(&text(node)?), outcome).flatten();
    let mut path = |key, what: &str| {
        let outcome = |path: &String| match path.as_str() {
            "" => Outcome::Becomes("no TLS".to_owned()),
            _ => Outcome::Becomes(format!("the file of the {what}")),
        };
        let path = keys.read(lint, key, text, outcome).filter(|path| !path.is_empty());
        path.map(PathBuf::from)
    };
    let files = (path("tls_cert_path", "certificate"), path("tls_key_path", "certificate's key"));
    match (files, https, plain) {
        ((Some(certificate), Some(key)), Some(listen), plain) => (plain, Some(ChihayaTls { listen, certificate, key })),
        ((Some(certificate), Some(key)), None, Some(listen)) => {
            lint.warns(
                place,
                format!("http has a certificate and no https_addr: as in v2.0.0-rc.2, {listen} is for https"),
            );
            (None, Some(ChihayaTls { listen, certificate, key }))
        }
        (_, Some(_), plain) => {
            lint.error(
                place,
                "http.https_addr is without certificate, expected tls_cert_path and tls_key_path beside it",
            );
            (plain, None)
        }
        ((Some(_), None) | (None, Some(_)), None, plain) => {
            lint.warns(place, "http has one of tls_cert_path and tls_key_path only, so Chihaya serves without TLS");
            (plain, None)
        }
        (_, None, plain) => (plain, None),
    }
}

fn timeouts(keys: &mut Keys<'_>, lint: &mut Lint, is_rc1: bool) -> HttpTimeouts {
    let mut read = |key, default: Option<u64>, what: &str| {
        let default = default.map(Duration::from_secs);
        let outcome = |given: &Option<Duration>| outcomes::timeout(given.or(default), what);
        keys.read(lint, key, duration, outcome).flatten().or(default)
    };
    // rc.1 has no limit by default.
    let default = if is_rc1 { None } else { Some(2) };
    let (arrives, taken) = ("a request has to arrive within", "the client has to take a reply within");
    let mut timeouts = HttpTimeouts {
        read: read("read_timeout", default, arrives),
        write: read("write_timeout", default, taken),
        ..HttpTimeouts::default()
    };
    if is_rc1 {
        timeouts.drain = read("request_timeout", None, "requests under way at a stop may take");
        keys.later(lint, &["idle_timeout"], RC1);
    } else {
        timeouts.idle = read("idle_timeout", Some(30), "between two requests a connection may be idle for");
    }
    timeouts
}

fn keep_alive(keys: &mut Keys<'_>, lint: &mut Lint, is_rc1: bool) -> bool {
    if is_rc1 {
        keys.later(lint, &["enable_keepalive", "enable_request_timing"], RC1);
        return false;
    }
    request_timing(keys, lint);
    let outcome = |keeps: &bool| match keeps {
        true => Outcome::Becomes("a connection may carry several requests".to_owned()),
        false => Outcome::Becomes("a connection carries one request".to_owned()),
    };
    keys.read(lint, "enable_keepalive", switch, outcome).unwrap_or(false)
}

fn request_timing(keys: &mut Keys<'_>, lint: &mut Lint) {
    keys.check(lint, "enable_request_timing", switch, "requests are always timed, at next to no cost");
}

fn routes(keys: &mut Keys<'_>, lint: &mut Lint, is_rc1: bool, key: &'static str, default: &str) -> Vec<RoutePattern> {
    if is_rc1 {
        keys.later(lint, &[key], RC1);
        return outcomes::default_routes(default);
    }
    let parse = |node: &ConfigNode| {
        let routes = scalars::routes(&texts(node)?)?;
        if routes.is_empty() { Err("at least one path, such as /announce") } else { Ok(routes) }
    };
    let outcome = |routes: &Vec<RoutePattern>| {
        let paths: Vec<_> = routes.iter().map(RoutePattern::as_str).collect();
        let what = format!("served at {}", paths.join(", "));
        Outcome::Becomes(what)
    };
    keys.read(lint, key, parse, outcome).unwrap_or_else(|| outcomes::default_routes(default))
}

fn own_numbers(keys: &mut Keys<'_>, lint: &mut Lint, is_rc1: bool) -> Numbers {
    if is_rc1 {
        keys.later(lint, &NUMBERS, RC1);
        return Numbers::default();
    }
    Numbers::read(keys, lint)
}

/// Reads `udp`. Returns `None` if there is no address to listen on.
pub(super) fn udp(keys: &mut Keys<'_>, lint: &mut Lint, is_rc1: bool, common: Numbers) -> Option<ChihayaUdp> {
    let (mut udp, entry) = keys.section(lint, "udp")?;
    let keys = &mut udp;
    let parse = |node: &ConfigNode| scalars::udp_listen(&text(node)?);
    let listen = keys.read(lint, "addr", parse, |listen| outcomes::listen(listen.as_ref(), "--udp-listen")).flatten();
    let is_own = |key: &String| !key.trim().is_empty() && !key.trim().starts_with(EXAMPLE_KEY);
    let private_key = keys.read(lint, "private_key", text, |text| private_key(text)).filter(is_own).map(PrivateKey);
    let outcome = |skew: &Option<Duration>| {
        let skew = skew.unwrap_or_default();
        let text = format!("clocks of instances with one key may differ by {}", seconds(skew.min(MAX_CLOCK_SKEW)));
        if skew > MAX_CLOCK_SKEW {
            Outcome::Warns(text, "a greater difference is not possible here".to_owned())
        } else {
            Outcome::Becomes(text)
        }
    };
    let max_clock_skew = keys.read(lint, "max_clock_skew", duration, outcome).flatten().unwrap_or_default();
    let ip_spoofing = ip_spoofing(keys, lint);
    if is_rc1 {
        keys.later(lint, &["enable_request_timing"], RC1);
    } else {
        request_timing(keys, lint);
    }
    let numbers = own_numbers(keys, lint, is_rc1);
    udp.finish(lint);
    let Some(listen) = listen else {
        lint.warns(entry.place, "udp has no address, and nothing listens for UDP");
        return None;
    };
    let requests = numbers.or(common).rules(ip_spoofing, is_rc1);
    Some(ChihayaUdp { listen, private_key, max_clock_skew, requests })
}

const OWN_KEY: &str = "each process makes connection ids with a key of its own";
/// The key in Chihaya's example begins with this text.
const EXAMPLE_KEY: &str = "paste a random string here";

fn private_key(text: &str) -> Outcome {
    match text.trim() {
        "" => Outcome::Becomes(OWN_KEY.to_owned()),
        text if text.starts_with(EXAMPLE_KEY) => {
            let why = "is the text of Chihaya's example, which is public; expected a random text of your own";
            Outcome::Warns(OWN_KEY.to_owned(), why.to_owned())
        }
        _ => Outcome::Becomes(
            "the key of connection ids; instances with the same key accept each other's ids".to_owned(),
        ),
    }
}

fn ip_spoofing(keys: &mut Keys<'_>, lint: &mut Lint) -> bool {
    keys.read(lint, "allow_ip_spoofing", switch, |may| outcomes::ip_spoofing(*may)).unwrap_or(false)
}
