use super::*;
use bendy::encoding::{Error, SingleItemEncoder, ToBencode};
use proptest::prelude::*;
use std::fmt::Write;

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

proptest! {
    #[test]
    fn replies_are_what_bendy_writes(files in proptest::collection::btree_map(any::<[u8; 20]>(), any::<[u16; 4]>(), 1..50)) {
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
        let mut body = Vec::new();
        encode(&reply, &mut body);
        let expected = reply.to_bencode().unwrap();
        prop_assert_eq!(body.escape_ascii().to_string(), expected.escape_ascii().to_string());
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
