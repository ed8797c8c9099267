//! The options after an announce (BEP 41).

use smallvec::SmallVec;

/// Ends the options. The byte is read but not written, because the end of the packet also ends the options (BEP 41,
/// "Option Format").
const END_OF_OPTIONS: u8 = 0;
/// Padding, without a length (BEP 41).
const NOP: u8 = 1;
/// Path and query of the announce URL. If they have more than 255 bytes, each option has one part of them (BEP 41).
const URL_DATA: u8 = 2;
/// The retrackers that have forwarded the announce, as in HTTP's `Via`. Only retracker uses this option; its number is
/// the letter `v`. Other trackers skip it (BEP 41), or skip everything after an announce (BEP 15).
const VIA: u8 = 0x76;
/// The most bytes of an option's value, because the length of the value is written in one byte.
const MAX_OPTION: usize = 255;

/// The joined values of all options of one kind. Most URLs' paths are short enough to need no allocation.
pub type OptionData = SmallVec<[u8; 32]>;

/// Writes the URL data and the `Via`. If one of them is empty, its option is left out.
pub(super) fn put(out: &mut Vec<u8>, url_data: &[u8], via: &[u8]) {
    put_one(out, URL_DATA, url_data);
    put_one(out, VIA, via);
}

/// Returns the length of this data when it is written as options.
pub(super) fn encoded_len(data: &[u8]) -> usize {
    data.len() + 2 * data.len().div_ceil(MAX_OPTION)
}

/// Writes as many options as the data needs.
fn put_one(out: &mut Vec<u8>, option: u8, data: &[u8]) {
    for part in data.chunks(MAX_OPTION) {
        out.extend_from_slice(&[option, u8::try_from(part.len()).unwrap_or(u8::MAX)]);
        out.extend_from_slice(part);
    }
}

/// Reads the URL data and the `Via`. A malformed option and everything after it are dropped.
pub(super) fn read(mut options: &[u8]) -> (OptionData, OptionData) {
    let mut url_data = OptionData::new();
    let mut via = OptionData::new();
    while let [option, behind @ ..] = options {
        options = match *option {
            END_OF_OPTIONS => break,
            NOP => behind,
            option => {
                let Some((&length, behind)) = behind.split_first() else { break };
                let Some((value, behind)) = behind.split_at_checked(length.into()) else { break };
                match option {
                    URL_DATA => url_data.extend_from_slice(value),
                    VIA => via.extend_from_slice(value),
                    _ => {}
                }
                behind
            }
        };
    }
    (url_data, via)
}
