//! Redirects.

use awc::http::StatusCode;
use awc::http::header::{HeaderMap, LOCATION};
use percent_encoding::{CONTROLS, percent_encode};
use url::Url;

use crate::forward::uri::is_http;

pub(super) fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// Returns where a redirect leads, if it is an http or https URL.
pub(super) fn location(from: &Url, headers: &HeaderMap) -> Option<Url> {
    // `Location` often contains raw bytes in an unknown encoding.
    let location = percent_encode(headers.get(LOCATION)?.as_bytes(), CONTROLS).to_string();
    let mut url = from.join(&location).ok().filter(|url| is_http(url) && url.port() != Some(0))?;
    url.set_fragment(None);
    Some(url)
}
