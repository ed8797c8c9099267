//! `Via` (RFC 9110, section 7.6.3): the retrackers that have forwarded an announce.
//!
//! Retrackers that forward to each other would send an announce round in a circle. So each retracker adds its name to
//! the announces that it forwards. If an announce has a retracker's own name, the announce has come back to it.

use std::fmt::Write;

/// The most names that are kept of a request. The tracker stops forwarding an announce long before the announce has
/// this many names.
const MAX_NAMES: usize = 16;

/// The names in a request's `Via`, in the order in which the request was forwarded. Empty, without an allocation, for a
/// request that comes from a client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Via(Vec<String>);

impl Via {
    /// Reads the header's lines. Elements that do not have the form `protocol name` are skipped.
    pub fn parse<'a>(lines: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let elements = lines.into_iter().flat_map(|line| line.split(|&byte| byte == b','));
        let names = elements.filter_map(|element| {
            let mut words = std::str::from_utf8(element).ok()?.split_ascii_whitespace();
            let (_protocol, name) = (words.next()?, words.next()?);
            let sane = name.len() <= 64 && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'(');
            sane.then(|| name.to_owned())
        });
        Self(names.take(MAX_NAMES).collect())
    }

    /// Returns whether the retracker of this name has forwarded the request.
    pub fn names(&self, name: &str) -> bool {
        self.0.iter().any(|other| other == name)
    }

    /// Returns how many retrackers have forwarded the request.
    pub fn hops(&self) -> usize {
        self.0.len()
    }

    /// Returns the header's value for the next tracker, with our own name added.
    pub fn and(&self, name: &str) -> String {
        let mut value = String::new();
        for passed_on_by in self.0.iter().map(String::as_str) {
            // Writing to a string cannot fail.
            let _ = write!(value, "1.1 {passed_on_by}, ");
        }
        value.push_str("1.1 ");
        value.push_str(name);
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(lines: &[&str]) -> Via {
        Via::parse(lines.iter().map(|line| line.as_bytes()))
    }

    #[test]
    fn names_in_every_form() {
        let via = parse(&["1.0 fred, HTTP/1.1 p.example.net:8080 (a proxy)", "1.1  ours"]);
        assert_eq!(via.hops(), 3);
        assert!(via.names("fred") && via.names("p.example.net:8080") && via.names("ours"));
        assert!(!via.names("1.1") && !via.names("our"));
        assert_eq!(via.and("me"), "1.1 fred, 1.1 p.example.net:8080, 1.1 ours, 1.1 me");
        assert_eq!(parse(&[]).and("me"), "1.1 me");
    }

    #[test]
    fn junk_is_passed_over_and_bounded() {
        assert_eq!(parse(&["", ",,", "1.1", "1.1 (comment", "\u{e9}"]), Via::default());
        assert_eq!(parse(&["1.1 a,".repeat(1000).as_str()]).hops(), MAX_NAMES);
        assert_eq!(parse(&[format!("1.1 {}", "x".repeat(65)).as_str()]).hops(), 0);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(names in proptest::collection::vec("[a-z0-9.:-]{1,20}", 0..15), own in "[0-9a-f]{16}") {
            let lines: Vec<_> = names.iter().map(|name| format!("1.1 {name}")).collect();
            let via = Via::parse(lines.iter().map(String::as_bytes));
            let next = Via::parse([via.and(&own).as_bytes()]);
            prop_assert_eq!(next.hops(), names.len() + 1);
            prop_assert!(next.names(&own) && names.iter().all(|name| next.names(name)));
        }

        #[test]
        fn any_bytes_are_read(bytes in any::<Vec<u8>>()) {
            let value = Via::parse([bytes.as_slice()]).and("me");
            prop_assert!(value.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()), "{}", value);
        }
    }
}
