//! The HTTP scrape (BEP 48): this module reads the query and writes the bencoded reply.

use super::bencode::{put_bytes, put_pair};
use super::query;
use crate::{InfoHash, Parameter, Refusal, ScrapeReply, ScrapeRequest, SwarmCounts};

/// The most torrents in one scrape. Transmission asks for 60 at a time.
pub const MAX_INFO_HASHES: usize = 200;

/// Reads the query of a scrape. Other parameters are skipped: clients build the query from the announce URL, which may
/// have a query of its own.
pub fn parse(raw: &[u8]) -> Result<ScrapeRequest, Refusal> {
    let mut info_hashes = Vec::new();
    for (parameter, value) in query::pairs(raw) {
        if parameter != Parameter::InfoHash {
            continue;
        }
        if info_hashes.len() == MAX_INFO_HASHES {
            return Err(Refusal::TooManyInfoHashes { max: MAX_INFO_HASHES });
        }
        info_hashes.push(InfoHash(query::identifier(parameter, value)?));
    }
    if info_hashes.is_empty() { Err(Refusal::FullScrape) } else { Ok(ScrapeRequest { info_hashes }) }
}

/// The most bytes that one torrent takes in a reply: its hash, four keys, four numbers.
const FILE: usize = 128;

/// Appends a reply. This encoder is written by hand for speed, because trackers get as many scrapes as announces. The
/// tests compare the result with what bendy writes.
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
