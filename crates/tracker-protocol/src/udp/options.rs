//! The options behind an announce (BEP 41).

use smallvec::SmallVec;

/// Ends the options. As the packet's end does so too, it is read but not written (BEP 41, "Option Format").
const END_OF_OPTIONS: u8 = 0;
/// Fills space; has no length (BEP 41).
const NOP: u8 = 1;
/// Path and query of the announce URL, or the next 255 bytes of them (BEP 41).
const URL_DATA: u8 = 2;
/// By whom the announce has been passed on, as HTTP's `Via` says it: an option of our own (`v`). BEP 41 has other trackers
/// pass over options that they do not know, and BEP 15 over whatever follows an announce.
const VIA: u8 = 0x76;
/// An option's length is one byte.
const MAX_OPTION: usize = 255;

/// What the options of one kind hold together. Inline where it is as short as most URLs' paths.
pub type OptionData = SmallVec<[u8; 32]>;

/// Writes both, if there is anything in them.
pub(super) fn put(out: &mut Vec<u8>, url_data: &[u8], via: &[u8]) {
    put_one(out, URL_DATA, url_data);
    put_one(out, VIA, via);
}

/// Bytes that it takes to write this.
pub(super) fn room(data: &[u8]) -> usize {
    data.len() + 2 * data.len().div_ceil(MAX_OPTION)
}

/// As many options as it takes.
fn put_one(out: &mut Vec<u8>, option: u8, data: &[u8]) {
    for part in data.chunks(MAX_OPTION) {
        out.extend_from_slice(&[option, u8::try_from(part.len()).unwrap_or(u8::MAX)]);
        out.extend_from_slice(part);
    }
}

/// The URL data and the `Via` among the options. What comes after a broken option is lost with it.
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
