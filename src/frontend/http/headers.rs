//! The headers of a request, whoever has parsed it.

use actix_web::http::header::{HeaderMap, HeaderValue};

/// Where header lines can be looked up.
pub trait Headers {
    /// The values of all lines of that name, whose case means nothing, in the order in which they came.
    fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]>;

    /// The value of the first such line.
    fn first<'a>(&'a self, name: &'a str) -> Option<&'a [u8]> {
        self.all(name).next()
    }
}

impl Headers for HeaderMap {
    fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.get_all(name).map(HeaderValue::as_bytes)
    }
}
