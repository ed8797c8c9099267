//! What the linter says about keys that several generations of Chihaya have.

use std::fmt::Display;
use std::time::Duration;

use super::lint::Outcome;
use super::model::KeySetUrl;
use super::scalars::{placeholder, seconds};
use crate::frontend::routes::RoutePattern;

pub(super) fn interval(interval: u32) -> Outcome {
    Outcome::Becomes(format!("interval {interval} s (--announce-interval)"))
}

pub(super) fn min_interval(min: u64) -> Outcome {
    Outcome::Becomes(format!("minimal interval {min} s"))
}

/// Says how long peers are kept. `how` is the same as in [`peer_age_text`].
pub(super) fn peer_age(age: Duration, how: &str) -> Outcome {
    Outcome::Becomes(peer_age_text(age, how))
}

/// Says how long peers are kept. `how` says where the number comes from, and may be empty.
pub(super) fn peer_age_text(age: Duration, how: &str) -> String {
    let how = if how.is_empty() { String::new() } else { format!(", {how}") };
    format!("peers are kept for {} after their latest announce{how} (--peer-age)", seconds(age))
}

pub(super) fn ip_spoofing(may: bool) -> Outcome {
    if may {
        let what =
            "ip of any client counts, and ipv4 or ipv6 in the family of its own address (--ip-param always)".to_owned();
        Outcome::Warns(what, "so any client can make others connect to an address of its choice".to_owned())
    } else {
        Outcome::Becomes("no client can announce another address (--ip-param never)".to_owned())
    }
}

pub(super) fn default_numwant(number: u32) -> Outcome {
    Outcome::Becomes(format!("{number} peers for a client that does not say how many it wants"))
}

pub(super) fn listen(listen: Option<&impl Display>, flag: &str) -> Outcome {
    Outcome::Becomes(match listen {
        None => "no listener".to_owned(),
        Some(listen) => format!("listens on {listen} ({flag})"),
    })
}

pub(super) fn timeout(timeout: Option<Duration>, what: &str) -> Outcome {
    let text = timeout.map_or_else(|| "no time limit".to_owned(), |timeout| format!("{what} {}", seconds(timeout)));
    Outcome::Becomes(text)
}

pub(super) fn no_header() -> Outcome {
    Outcome::Becomes("the client's address is that of its connection".to_owned())
}

/// Says what the header does. `is_exact` says that this version of Chihaya finds the header only in Go's spelling.
pub(super) fn real_ip_header(name: &str, is_exact: bool) -> Outcome {
    let go = canonical(name);
    let unlike = if is_exact && go != name {
        format!(", although this version of Chihaya only found headers written as Go does, {go}")
    } else {
        String::new()
    };
    Outcome::Warns(
        format!("the client's address is what this header says (--real-ip-header){unlike}"),
        "anyone who reaches the tracker without the proxy can choose any address, and --trusted-proxies with the \
         proxy's address is safer"
            .to_owned(),
    )
}

/// Returns a header's name as Go writes it: `X-Real-Ip`.
fn canonical(name: &str) -> String {
    let mut is_first = true;
    let letter = |c: char| {
        let c = if is_first { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() };
        is_first = c == '-';
        c
    };
    name.chars().map(letter).collect()
}

pub(super) fn default_routes(path: &str) -> Vec<RoutePattern> {
    RoutePattern::new(path).into_iter().collect()
}

/// Says what the URL of the keys means. `more` is about the issuer, and may be empty.
pub(super) fn key_set(set: &KeySetUrl, more: &str) -> Outcome {
    match set {
        KeySetUrl::Placeholder(text) => {
            to_be_replaced(text, "until then no token can be verified, and no client is let in")
        }
        KeySetUrl::Url(url) => {
            Outcome::Becomes(format!("a client needs a token that was signed with a key of {url}{more}"))
        }
    }
}

pub(super) fn refresh(refresh: Option<Duration>) -> Outcome {
    match refresh {
        Some(refresh) => Outcome::Becomes(format!("keys are fetched every {}", seconds(refresh))),
        None => Outcome::Warns("keys are fetched every 300 s".to_owned(), "zero or less is no interval".to_owned()),
    }
}

pub(super) fn audience(text: &str) -> Outcome {
    claim(text, "audience", "aud")
}

pub(super) fn issuer(text: &str) -> Outcome {
    claim(text, "issuer", "iss")
}

fn claim(text: &str, what: &str, claim: &str) -> Outcome {
    match placeholder(text) {
        Some(_) => to_be_replaced(text, "until then no token has this value, and no client is let in"),
        None => Outcome::Becomes(format!("the {what}, {claim}, that tokens must have")),
    }
}

fn to_be_replaced(text: &str, then: &str) -> Outcome {
    let placeholder = placeholder(text).unwrap_or_default();
    Outcome::Lets(format!("still has {placeholder} in it, which is to be replaced by your own: {then}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_as_go_writes_them() {
        for (name, expected) in
            [("x-real-ip", "X-Real-Ip"), ("X-Real-IP", "X-Real-Ip"), ("X-Forwarded-For", "X-Forwarded-For"), ("", "")]
        {
            assert_eq!(canonical(name), expected);
        }
    }
}
