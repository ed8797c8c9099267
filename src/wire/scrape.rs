//! The HTTP scrape (BEP 48): the query in, the bencoded reply out.

use bendy::encoding::{Error, SingleItemEncoder, ToBencode};

use super::query;
use crate::bittorrent::{InfoHash, Parameter, Refusal, ScrapeReply, ScrapeRequest, SwarmCounts};

/// Torrents that one scrape may ask about. Transmission asks about 60 at a time.
pub const MAX_INFO_HASHES: usize = 200;

/// Reads the query of a scrape. Whatever else the query holds is passed over: clients build it from the announce
/// URL, which may have a query of its own.
pub fn parse(raw: &[u8]) -> Result<ScrapeRequest, Refusal> {
    let mut info_hashes = Vec::new();
    for (parameter, value) in query::pairs(raw) {
        if parameter != Parameter::InfoHash {
            continue;
        }
        if info_hashes.len() == MAX_INFO_HASHES {
            return Err(Refusal::TooManyInfoHashes { max: MAX_INFO_HASHES });
        }
        info_hashes.push(InfoHash(query::twenty(parameter, value)?));
    }
    if info_hashes.is_empty() { Err(Refusal::FullScrape) } else { Ok(ScrapeRequest { info_hashes }) }
}

/// Writes a reply.
pub fn encode(reply: &ScrapeReply) -> Vec<u8> {
    // bendy fails only on keys out of order, and the reply's are sorted by its contract.
    reply.to_bencode().unwrap_or_else(|_| b"d5:filesdee".to_vec())
}

impl ToBencode for ScrapeReply {
    const MAX_DEPTH: usize = 3;

    fn encode(&self, encoder: SingleItemEncoder<'_>) -> Result<(), Error> {
        encoder.emit_dict(|mut dict| {
            dict.emit_pair_with(b"files", |files| {
                files.emit_dict(|mut files| {
                    self.files.iter().try_for_each(|(hash, counts)| files.emit_pair(&hash.0, counts))
                })
            })?;
            dict.emit_pair_with(b"flags", |flags| {
                flags.emit_dict(|mut flags| flags.emit_pair(b"min_request_interval", self.min_request_interval))
            })
        })
    }
}

impl ToBencode for SwarmCounts {
    const MAX_DEPTH: usize = 1;

    fn encode(&self, encoder: SingleItemEncoder<'_>) -> Result<(), Error> {
        encoder.emit_dict(|mut dict| {
            dict.emit_pair(b"complete", self.complete)?;
            dict.emit_pair(b"downloaded", self.downloaded)?;
            if self.partial_seeds > 0 {
                dict.emit_pair(b"downloaders", self.incomplete - self.partial_seeds)?;
            }
            dict.emit_pair(b"incomplete", self.incomplete)
        })
    }
}
