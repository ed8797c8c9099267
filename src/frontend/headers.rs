//! The headers of a request, independent of their parser.

/// The header lines of a request.
pub trait Headers {
    /// All lines as names and values, in the order of the request.
    fn lines(&self) -> impl Iterator<Item = (&[u8], &[u8])>;

    /// The values of all lines with this name. Case does not matter.
    fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        let name = name.as_bytes();
        let named = move |(other, _): &(&[u8], &[u8])| other.len() == name.len() && other.eq_ignore_ascii_case(name);
        self.lines().filter(named).map(|(_, value)| value)
    }

    /// The value of the first line with this name.
    fn first<'a>(&'a self, name: &'a str) -> Option<&'a [u8]> {
        self.all(name).next()
    }
}

/// What the header lines say about the sender, except its address. Every announce needs this, so one pass over the
/// lines finds it all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SenderHints {
    /// Whether a proxy forwarded the request: a header names the client, or is one that only proxies add.
    pub proxy: bool,
    /// Whether a web page sent the request, perhaps unknown to its visitor (Fetch Metadata; RFC 6454).
    pub page: bool,
    /// Whether a browser sent the request.
    pub browser: bool,
}

impl SenderHints {
    /// Reads the headers.
    pub fn of(headers: &impl Headers) -> Self {
        let mut hints = Self::default();
        for (name, value) in headers.lines() {
            // Comparing the lengths first excludes most lines.
            match name.len() {
                6 if name.eq_ignore_ascii_case(b"origin") => hints.page = true,
                7 if name.eq_ignore_ascii_case(b"referer") => hints.page = true,
                9 if name.eq_ignore_ascii_case(b"x-real-ip") || name.eq_ignore_ascii_case(b"forwarded") => {
                    hints.proxy |= !value.is_empty();
                }
                // `none`: the user typed the address or opened a bookmark, so the request comes from no page.
                14 if name.eq_ignore_ascii_case(b"sec-fetch-site") => {
                    hints.page |= !value.eq_ignore_ascii_case(b"none");
                }
                // `cors` is no sign of a page: Node.js sends it, and WebTorrent runs on Node.js.
                14 if name.eq_ignore_ascii_case(b"sec-fetch-mode") => {
                    hints.page |= value.eq_ignore_ascii_case(b"no-cors");
                }
                14 if name.eq_ignore_ascii_case(b"sec-fetch-dest") => {
                    hints.page |= !(value.eq_ignore_ascii_case(b"document") || value.eq_ignore_ascii_case(b"empty"));
                }
                14 if name.eq_ignore_ascii_case(b"true-client-ip") => hints.proxy |= !value.is_empty(),
                15 if name.eq_ignore_ascii_case(b"x-forwarded-for") => hints.proxy |= !value.is_empty(),
                // `*` is no sign of a browser, because Node.js sends it.
                15 if name.eq_ignore_ascii_case(b"accept-language") => hints.browser |= value != b"*",
                16 if name.eq_ignore_ascii_case(b"cf-connecting-ip")
                    || name.eq_ignore_ascii_case(b"x-forwarded-host") =>
                {
                    hints.proxy |= !value.is_empty();
                }
                17 if name.eq_ignore_ascii_case(b"x-forwarded-proto") => hints.proxy |= !value.is_empty(),
                _ => {}
            }
        }
        hints
    }
}

/// Whether the byte may occur in a header's name (RFC 9110, section 5.6.2).
pub(super) fn is_token(byte: u8) -> bool {
    TOKEN.get(usize::from(byte)).copied().unwrap_or(false)
}

#[allow(clippy::indexing_slicing, reason = "it is evaluated at compile time")]
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
