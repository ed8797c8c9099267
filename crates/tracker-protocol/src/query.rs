//! The query string of an announce or a scrape: pairs in their order, with repeats, and values as bytes. It is not read
//! as an HTML form, because identifiers are 20 arbitrary bytes, which clients escape in many ways.

use smallvec::SmallVec;

use crate::{Parameter, Refusal};

/// Returns the pairs that this tracker reads, with values still escaped. Pairs are separated by `&` and `;`, and also
/// by a second `?`: some announce URLs already have a query when the client appends its own. A key without `=` has an
/// empty value. Pairs with other keys are skipped.
pub fn pairs(query: &[u8]) -> impl Iterator<Item = (Parameter, &[u8])> {
    let mut rest = Some(query);
    std::iter::from_fn(move || {
        loop {
            let (pair, behind) = split(rest?, |bytes| memchr::memchr3(b'&', b';', b'?', bytes));
            rest = behind;
            let (name, value) = split(pair, |bytes| memchr::memchr(b'=', bytes));
            if let Some(parameter) = parameter(name) {
                return Some((parameter, value.unwrap_or_default()));
            }
        }
    })
}

/// Returns the values of all pairs with this key, still escaped. The key must consist of characters that need no
/// escape.
pub fn values<'a>(query: &'a [u8], key: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let is_key = move |name: &[u8]| {
        name == key || name.contains(&b'%') && unescape_leniently(name, Plus::Space).eq(key.iter().copied())
    };
    let pairs = query
        .split(|byte| matches!(byte, b'&' | b';' | b'?'))
        .map(|pair| split(pair, |bytes| memchr::memchr(b'=', bytes)));
    pairs.filter(move |(name, _)| is_key(name)).map(|(_, value)| value.unwrap_or_default())
}

/// Decodes the percent escapes of a value; their digits may be upper or lower case. Malformed escapes and `+` stay as
/// they are.
pub fn unescaped(value: &[u8]) -> impl Iterator<Item = u8> {
    unescape_leniently(value, Plus::Itself)
}

/// Splits at the first separator. The second part is `None` if there is no separator.
fn split(bytes: &[u8], find: impl Fn(&[u8]) -> Option<usize>) -> (&[u8], Option<&[u8]>) {
    let (before, rest) = bytes.split_at(find(bytes).unwrap_or(bytes.len()));
    (before, rest.get(1..))
}

fn parameter(name: &[u8]) -> Option<Parameter> {
    if name.contains(&b'%') {
        let decoded = unescape(name).collect::<Option<SmallVec<[u8; 16]>>>()?;
        return Parameter::from_name(&decoded);
    }
    Parameter::from_name(name)
}

/// Reads a value of exactly 20 bytes.
pub fn identifier(parameter: Parameter, value: &[u8]) -> Result<[u8; 20], Refusal> {
    let mut bytes = [0; 20];
    let mut found = 0;
    for byte in unescape(value) {
        let byte = byte.ok_or(Refusal::MalformedEscape(parameter))?;
        if let Some(slot) = bytes.get_mut(found) {
            *slot = byte;
        }
        found += 1;
    }
    if found == 20 { Ok(bytes) } else { Err(Refusal::WrongLength { parameter, found }) }
}

/// Reads a value of any bytes. Up to 32 bytes need no allocation. The limit of the request line bounds longer values. A
/// `%` that begins no escape is kept, because no reply depends on such a value.
pub fn bytes(value: &[u8]) -> SmallVec<[u8; 32]> {
    if memchr::memchr2(b'%', b'+', value).is_none() {
        return SmallVec::from_slice(value);
    }
    unescape_leniently(value, Plus::Space).collect()
}

/// A value that was read as a decimal number of 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Number {
    /// The value is empty or has bytes other than digits.
    NotDecimal,
    /// The value has digits only, but does not fit into 64 bits.
    TooLarge,
    /// The number.
    Value(u64),
}

/// Reads a value as an unsigned decimal number.
pub fn number(value: &[u8]) -> Number {
    let mut total = if value.is_empty() { Number::NotDecimal } else { Number::Value(0) };
    for byte in unescape(value) {
        let Some(byte) = byte.filter(u8::is_ascii_digit) else { return Number::NotDecimal };
        total = match total {
            Number::Value(n) => match n.checked_mul(10).and_then(|n| n.checked_add(u64::from(byte - b'0'))) {
                Some(n) => Number::Value(n),
                None => Number::TooLarge,
            },
            other => other,
        };
    }
    total
}

/// Decodes percent escapes with upper- or lower-case digits, and `+` as a space. Yields `None` where an escape is
/// malformed.
fn unescape(value: &[u8]) -> impl Iterator<Item = Option<u8>> {
    let mut bytes = value.iter().copied();
    std::iter::from_fn(move || {
        Some(match bytes.next()? {
            b'%' => bytes.next().zip(bytes.next()).and_then(|(high, low)| hex(high, low)),
            b'+' => Some(b' '),
            byte => Some(byte),
        })
    })
}

/// What a `+` stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plus {
    /// A space, in queries.
    Space,
    /// Itself, in paths.
    Itself,
}

/// Decodes percent escapes with upper- or lower-case digits. `plus` is what a `+` means. All other bytes stay as they
/// are, malformed escapes included.
pub(super) fn unescape_leniently(value: &[u8], plus: Plus) -> impl Iterator<Item = u8> {
    let mut rest = value;
    std::iter::from_fn(move || {
        let (&byte, behind) = rest.split_first()?;
        rest = behind;
        match (byte, behind) {
            (b'%', &[high, low, ref after @ ..]) => match hex(high, low) {
                Some(byte) => {
                    rest = after;
                    Some(byte)
                }
                None => Some(b'%'),
            },
            (b'+', _) if plus == Plus::Space => Some(b' '),
            _ => Some(byte),
        }
    })
}

fn hex(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| HEX_DIGITS.get(usize::from(byte)).copied().unwrap_or(NO_DIGIT);
    let (high, low) = (digit(high), digit(low));
    (high | low < NO_DIGIT).then_some(high << 4 | low)
}

/// Greater than any digit, so that one comparison shows whether two bytes are both digits.
const NO_DIGIT: u8 = 0x80;

/// The value of each byte as a hexadecimal digit. This is a table for speed, because most of an announce consists of
/// escapes.
#[allow(clippy::indexing_slicing, reason = "the compiler makes the table")]
const HEX_DIGITS: [u8; 256] = {
    let mut digits = [NO_DIGIT; 256];
    let mut value = 0;
    while value < 16 {
        let lower = b"0123456789abcdef"[value];
        digits[lower as usize] = value.to_le_bytes()[0];
        digits[lower.to_ascii_uppercase() as usize] = value.to_le_bytes()[0];
        value += 1;
    }
    digits
};

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(query: &str) -> Vec<(Parameter, &str)> {
        pairs(query.as_bytes()).map(|(name, value)| (name, std::str::from_utf8(value).unwrap())).collect()
    }

    #[test]
    fn separators_repeats_and_bare_keys() {
        assert_eq!(
            read("passkey=x?info_hash=a&&port=1;ip=b&ip=c&key&left=="),
            [
                (Parameter::InfoHash, "a"),
                (Parameter::Port, "1"),
                (Parameter::Ip, "b"),
                (Parameter::Ip, "c"),
                (Parameter::Key, ""),
                (Parameter::Left, "="),
            ]
        );
        assert_eq!(read(""), []);
        assert_eq!(read("&;?"), []);
    }

    #[test]
    fn keys_may_be_escaped_and_unknown_ones_may_be_broken() {
        assert_eq!(read("info%5fhash=a&in%fo=b&x=%zz"), [(Parameter::InfoHash, "a")]);
    }

    #[test]
    fn numbers() {
        let read = |value: &str| number(value.as_bytes());
        assert_eq!(read("0"), Number::Value(0));
        assert_eq!(read("%31%32"), Number::Value(12));
        assert_eq!(read("18446744073709551615"), Number::Value(u64::MAX));
        assert_eq!(read("18446744073709551616"), Number::TooLarge);
        for text in ["99999999999999999999999x", "-1", "", "1x2", "x%5", "%3", "NaN"] {
            assert_eq!(read(text), Number::NotDecimal, "{text}");
        }
    }

    #[test]
    fn what_is_no_escape_stands_for_itself() {
        for (value, expected) in [
            ("%zz", "%zz"),
            ("a%", "a%"),
            ("%4", "%4"),
            ("%%41", "%A"),
            ("%4%41", "%4A"),
            ("fe80::1%eth0", "fe80::1%eth0"),
            ("a+b", "a b"),
        ] {
            assert_eq!(bytes(value.as_bytes()).as_slice(), expected.as_bytes(), "{value}");
        }
    }

    proptest! {
        #[test]
        fn any_escaping_of_twenty_bytes_reads_the_same(id in any::<[u8; 20]>(), how in any::<[u8; 20]>()) {
            let mut value = Vec::new();
            for (byte, how) in id.into_iter().zip(how) {
                match how % 4 {
                    0 => value.extend(format!("%{byte:02x}").bytes()),
                    1 => value.extend(format!("%{byte:02X}").bytes()),
                    2 if byte == b' ' => value.push(b'+'),
                    _ if byte.is_ascii_alphanumeric() || byte >= 0x80 => value.push(byte),
                    _ => value.extend(format!("%{byte:02x}").bytes()),
                }
            }
            prop_assert_eq!(identifier(Parameter::InfoHash, &value), Ok(id));
            let read = bytes(&value);
            prop_assert_eq!(read.as_slice(), id.as_slice());
        }

        #[test]
        fn any_bytes_are_read_or_refused(query in any::<Vec<u8>>()) {
            for (parameter, value) in pairs(&query) {
                let _ = identifier(parameter, value);
                let _ = (number(value), bytes(value));
            }
        }

        #[test]
        fn every_number_is_read(n in any::<u64>()) {
            prop_assert_eq!(number(n.to_string().as_bytes()), Number::Value(n));
        }
    }
}
