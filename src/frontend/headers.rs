//! The headers of a request, whoever has parsed it.

/// Where header lines can be looked up.
pub trait Headers {
    /// All lines, each a name and a value, in the order in which they came.
    fn lines(&self) -> impl Iterator<Item = (&[u8], &[u8])>;

    /// The values of all lines of that name, whose case means nothing.
    fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        let name = name.as_bytes();
        let named = move |(other, _): &(&[u8], &[u8])| other.len() == name.len() && other.eq_ignore_ascii_case(name);
        self.lines().filter(named).map(|(_, value)| value)
    }

    /// The value of the first such line.
    fn first<'a>(&'a self, name: &'a str) -> Option<&'a [u8]> {
        self.all(name).next()
    }
}

/// What a request's header lines tell of who sent it, beside an address. Found in one pass, as every announce is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signs {
    /// A proxy has passed it on, which says, or could say, for whom.
    pub proxy: bool,
    /// A web page has sent it, and perhaps not the one who looks at that page (Fetch Metadata; RFC 6454).
    pub page: bool,
    /// A browser has sent it.
    pub browser: bool,
}

impl Signs {
    /// Those in these headers.
    pub fn of(headers: &impl Headers) -> Self {
        let mut signs = Self::default();
        for (name, value) in headers.lines() {
            // Most lines are passed over for their length.
            match name.len() {
                6 if name.eq_ignore_ascii_case(b"origin") => signs.page = true,
                7 if name.eq_ignore_ascii_case(b"referer") => signs.page = true,
                9 if name.eq_ignore_ascii_case(b"x-real-ip") || name.eq_ignore_ascii_case(b"forwarded") => {
                    signs.proxy |= !value.is_empty();
                }
                // What somebody has typed into a browser, or has bookmarked, comes from no page.
                14 if name.eq_ignore_ascii_case(b"sec-fetch-site") => {
                    signs.page |= !value.eq_ignore_ascii_case(b"none");
                }
                // `cors` is what Node.js says as well, and so what WebTorrent does.
                14 if name.eq_ignore_ascii_case(b"sec-fetch-mode") => {
                    signs.page |= value.eq_ignore_ascii_case(b"no-cors");
                }
                14 if name.eq_ignore_ascii_case(b"sec-fetch-dest") => {
                    signs.page |= !(value.eq_ignore_ascii_case(b"document") || value.eq_ignore_ascii_case(b"empty"));
                }
                14 if name.eq_ignore_ascii_case(b"true-client-ip") => signs.proxy |= !value.is_empty(),
                15 if name.eq_ignore_ascii_case(b"x-forwarded-for") => signs.proxy |= !value.is_empty(),
                // `*` is what Node.js says.
                15 if name.eq_ignore_ascii_case(b"accept-language") => signs.browser |= value != b"*",
                16 if name.eq_ignore_ascii_case(b"cf-connecting-ip")
                    || name.eq_ignore_ascii_case(b"x-forwarded-host") =>
                {
                    signs.proxy |= !value.is_empty();
                }
                17 if name.eq_ignore_ascii_case(b"x-forwarded-proto") => signs.proxy |= !value.is_empty(),
                _ => {}
            }
        }
        signs
    }
}

/// A byte of a header's name (RFC 9110, section 5.6.2).
pub(super) fn is_token(byte: u8) -> bool {
    TOKEN.get(usize::from(byte)).copied().unwrap_or(false)
}

#[allow(clippy::indexing_slicing, reason = "it is made when this is compiled")]
const TOKEN: [bool; 256] = {
    let mut token = [false; 256];
    let mut byte = 0;
    while byte < 128_u8 {
        token[byte as usize] = byte.is_ascii_alphanumeric()
            || matches!(
                byte,
                b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
            );
        byte += 1;
    }
    token
};
