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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::bencode::{Reader, Value};
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::fmt::Write;

    /// The counts in a reply, by their keys.
    fn read(body: &[u8]) -> BTreeMap<Vec<u8>, BTreeMap<Vec<u8>, i64>> {
        let mut reader = Reader::new(body);
        assert_eq!(reader.value(), Ok(Value::Dict));
        assert_eq!(reader.key(), Ok(Some(&b"files"[..])));
        assert_eq!(reader.value(), Ok(Value::Dict));
        let mut files = BTreeMap::new();
        while let Some(hash) = reader.key().unwrap() {
            assert_eq!(reader.value(), Ok(Value::Dict));
            let mut counts = BTreeMap::new();
            while let Some(key) = reader.key().unwrap() {
                let Value::Int(count) = reader.value().unwrap() else { panic!() };
                counts.insert(key.to_vec(), count);
            }
            files.insert(hash.to_vec(), counts);
        }
        files
    }

    proptest! {
        #[test]
        fn every_hash_is_in_the_reply(files in proptest::collection::btree_map(any::<[u8; 20]>(), any::<[u16; 4]>(), 1..50)) {
            let counts = |[complete, leechers, partial_seeds, downloaded]: [u16; 4]| SwarmCounts {
                complete: complete.into(),
                incomplete: u32::from(leechers) + u32::from(partial_seeds),
                partial_seeds: partial_seeds.into(),
                downloaded: downloaded.into(),
            };
            let reply = ScrapeReply {
                files: files.iter().map(|(hash, &numbers)| (InfoHash(*hash), counts(numbers))).collect(),
                min_request_interval: 30,
            };
            let read = read(&encode(&reply));
            prop_assert_eq!(read.len(), files.len());
            for (hash, numbers) in files {
                let [complete, leechers, partial_seeds, downloaded] = numbers.map(i64::from);
                let found = &read[&hash.to_vec()];
                prop_assert_eq!(found[&b"complete"[..]], complete);
                prop_assert_eq!(found[&b"incomplete"[..]], leechers + partial_seeds);
                prop_assert_eq!(found[&b"downloaded"[..]], downloaded);
                prop_assert_eq!(found.get(&b"downloaders"[..]).copied(), (partial_seeds > 0).then_some(leechers));
            }
        }

        #[test]
        fn as_many_hashes_as_are_asked_for(hashes in proptest::collection::vec(any::<[u8; 20]>(), 1..=MAX_INFO_HASHES)) {
            let mut query = String::new();
            for hash in &hashes {
                query.push_str("&info_hash=");
                hash.iter().for_each(|byte| write!(query, "%{byte:02x}").unwrap());
            }
            let request = parse(query.as_bytes()).unwrap();
            prop_assert_eq!(request.info_hashes.iter().map(|hash| hash.0).collect::<Vec<_>>(), hashes);
        }
    }
}
