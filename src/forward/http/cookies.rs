//! Cookies that an upstream sets with a redirect and reads in the same exchange.

use awc::http::header::{self, HeaderMap, HeaderValue};
use url::Url;

/// How many cookies are kept during an exchange, and the most bytes that one cookie may have.
const MAX_COOKIES: usize = 8;
const MAX_COOKIE: usize = 1024;

/// The cookies of one exchange. Some trackers and firewalls refuse requests without the cookies of their redirect.
#[derive(Debug, Default)]
pub(super) struct Cookies(Vec<Cookie>);

#[derive(Debug)]
struct Cookie {
    host: String,
    name: Vec<u8>,
    value: Vec<u8>,
}

impl Cookies {
    /// Stores the cookies that a reply of this host sets.
    pub(super) fn take(&mut self, url: &Url, headers: &HeaderMap) {
        for set in headers.get_all(header::SET_COOKIE) {
            let pair = set.as_bytes().split(|&byte| byte == b';').next().unwrap_or_default();
            let mut parts = pair.splitn(2, |&byte| byte == b'=');
            let (Some(name), Some(value)) = (parts.next(), parts.next()) else { continue };
            let (name, value) = (name.trim_ascii(), value.trim_ascii());
            if name.is_empty() || pair.len() > MAX_COOKIE {
                continue;
            }
            let host = url.host_str().unwrap_or_default().to_owned();
            self.0.retain(|cookie| cookie.host != host || cookie.name != name);
            if self.0.len() < MAX_COOKIES {
                self.0.push(Cookie { host, name: name.to_vec(), value: value.to_vec() });
            }
        }
    }

    /// Returns the value of `Cookie` for this host.
    pub(super) fn for_host(&self, url: &Url) -> Option<HeaderValue> {
        let own = self.0.iter().filter(|cookie| Some(cookie.host.as_str()) == url.host_str());
        let pairs: Vec<_> = own.map(|cookie| [&cookie.name[..], b"=", &cookie.value].concat()).collect();
        HeaderValue::from_bytes(&pairs.join(&b"; "[..])).ok().filter(|value| !value.is_empty())
    }
}
