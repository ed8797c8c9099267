//! The HTTP scrape (BEP 48): the query in, the bencoded reply out.

use super::bencode::{put_bytes, put_pair};
use super::query;
use crate::{InfoHash, Parameter, Refusal, ScrapeReply, ScrapeRequest, SwarmCounts};

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

/// Bytes of one torrent in a reply at most: its hash, four keys, four numbers.
const FILE: usize = 128;

/// Appends a reply. By hand, because trackers are scraped as often as they are announced to; the tests hold it to bendy's
/// bytes.
pub fn encode(reply: &ScrapeReply, out: &mut Vec<u8>) {
    out.reserve(64 + FILE * reply.files.len());
    out.extend_from_slice(b"d5:filesd");
    for (hash, counts) in &reply.files {
        put_bytes(out, &hash.0);
        put_counts(out, counts);
    }
    out.extend_from_slice(b"e5:flagsd");
    put_pair(out, b"20:min_request_interval", reply.min_request_interval);
    out.extend_from_slice(b"ee");
}

fn put_counts(out: &mut Vec<u8>, counts: &SwarmCounts) {
    out.push(b'd');
    put_pair(out, b"8:complete", counts.complete);
    put_pair(out, b"10:downloaded", counts.downloaded);
    if counts.partial_seeds > 0 {
        put_pair(out, b"11:downloaders", counts.incomplete - counts.partial_seeds);
    }
    put_pair(out, b"10:incomplete", counts.incomplete);
    out.push(b'e');
}

#[cfg(test)]
mod tests;
