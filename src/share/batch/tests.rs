use super::*;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

fn port(port: u16) -> NonZeroU16 {
    NonZeroU16::new(port).unwrap()
}

/// Returns a batch with every kind of record.
fn example() -> RecordBatch {
    let stays = |port, role, completed| PeerNews::Stays { port, role, completed };
    let v4: IpAddr = Ipv4Addr::new(192, 168, 1, 5).into();
    let v6: IpAddr = "fd00::5".parse().unwrap();
    let record = |n: u8, ip, is_claim, news, downloaded| SharedRecord {
        info_hash: InfoHash([n; 20]),
        zone: NonZeroU8::new(n),
        peer: PeerRecord { ip, is_claim, peer_id: PeerId(*b"-TR4050-abcdefghijkl"), news, downloaded },
    };
    RecordBatch {
        flags: 0,
        instance: 0x0123_4567_89ab_cdef,
        sequence: 42,
        age: Duration::from_millis(100),
        zones_fingerprint: 0xfeed_beef_0000_0001,
        records: vec![
            record(0, v4, false, stays(port(6881), Role::Leecher, false), 0),
            record(1, v4, false, stays(port(6881), Role::PartialSeed, true), 258),
            record(2, v6, false, stays(port(51413), Role::Seed, true), 1),
            record(3, v6, true, stays(port(1), Role::Seed, false), 16_777_215),
            record(4, v4, true, PeerNews::Left { port: Some(port(6881)) }, 3),
            record(255, v6, false, PeerNews::Left { port: None }, 0),
        ],
    }
}

fn encoded(batch: &RecordBatch) -> Vec<u8> {
    let mut bytes = Vec::new();
    batch.encode(&mut bytes);
    bytes
}

/// Returns the bytes in hexadecimal. Each line has as many bytes as `lengths` says: first the head, then each record.
fn hex(bytes: &[u8], lengths: &[usize]) -> String {
    let mut rest = bytes;
    let mut text = String::new();
    for length in lengths {
        let (line, others) = rest.split_at(*length);
        line.iter().for_each(|byte| write!(text, "{byte:02x}").unwrap());
        text.push('\n');
        rest = others;
    }
    assert_eq!(rest, [0; 0]);
    text
}

#[test]
fn a_batch_has_this_form_in_all_versions() {
    let bytes = encoded(&example());
    let lengths = [HEAD, RECORD_V4, RECORD_V4, RECORD_V6, RECORD_V6, RECORD_V4, RECORD_V6];
    insta::assert_snapshot!(hex(&bytes, &lengths), @"
    01000123456789abcdef0000002a00000064feedbeef00000001
    000000000000000000000000000000000000000000c0a801051ae1002d5452343035302d6162636465666768696a6b6c000000
    110101010101010101010101010101010101010101c0a801051ae1012d5452343035302d6162636465666768696a6b6c000102
    160202020202020202020202020202020202020202fd000000000000000000000000000005c8d5022d5452343035302d6162636465666768696a6b6c000001
    260303030303030303030303030303030303030303fd0000000000000000000000000000050001032d5452343035302d6162636465666768696a6b6cffffff
    280404040404040404040404040404040404040404c0a801051ae1042d5452343035302d6162636465666768696a6b6c000003
    0cfffffffffffffffffffffffffffffffffffffffffd0000000000000000000000000000050000ff2d5452343035302d6162636465666768696a6b6c000000
    ");
}

#[test]
fn malformed_records_are_dropped_and_the_others_are_read() {
    let good = example();
    let bytes = encoded(&good);
    let place = |record: usize| HEAD + record * RECORD_V4;
    let changed = |at: usize, to: &[u8]| {
        let mut bytes = bytes.clone();
        bytes[at..at + to.len()].copy_from_slice(to);
        RecordBatch::decode(&bytes).unwrap()
    };
    // Role 3 and the two highest bits have no meaning. A record of a peer that has left must have no role, and must not
    // say that the download is complete.
    for kind in [3, 0x40, 0x80, LEFT | COMPLETED, LEFT | 1] {
        let DecodedBatch { batch, faults } = changed(place(1), &[kind]);
        assert_eq!((batch.records.len(), faults), (5, Faults { kind: 1, ..Faults::default() }), "{kind:#x}");
        assert_eq!((batch.records[0], &batch.records[1..]), (good.records[0], &good.records[2..]));
    }
    let DecodedBatch { batch, faults } = changed(place(1) + 25, &[0, 0]);
    assert_eq!((batch.records.len(), faults), (5, Faults { port: 1, ..Faults::default() }));
    let DecodedBatch { batch, faults } = RecordBatch::decode(&bytes[..bytes.len() - 1]).unwrap();
    assert_eq!((&batch.records[..], faults), (&good.records[..5], Faults { cut: 1, ..Faults::default() }));
}

#[test]
fn a_batch_of_another_version_is_not_read() {
    let mut bytes = encoded(&example());
    for version in [0, 2, 255] {
        bytes[0] = version;
        assert_eq!(RecordBatch::decode(&bytes), Err(BatchError::Version(version)));
    }
    assert_eq!(RecordBatch::decode(&[2]), Err(BatchError::Version(2)), "whatever the other bytes are");
    assert_eq!(RecordBatch::decode(&[]), Err(BatchError::Short));
}

#[test]
fn records_past_the_limit_are_counted_and_not_read() {
    let record = example().records[0];
    let batch = |count| RecordBatch { records: vec![record; count], ..example() };
    let full = encoded(&batch(MAX_RECORDS));
    assert_eq!(full.len(), 26 + 51 * 1280);
    assert_eq!(RecordBatch::decode(&full).unwrap().batch, batch(MAX_RECORDS));
    let DecodedBatch { batch: read, faults } = RecordBatch::decode(&encoded(&batch(MAX_RECORDS + 7))).unwrap();
    assert_eq!((read, faults), (batch(MAX_RECORDS), Faults { surplus: 7, ..Faults::default() }));
}

#[test]
fn what_does_not_fit_is_the_largest_that_fits() {
    let mut batch = example();
    batch.age = Duration::from_hours(24 * 365);
    batch.records[0].peer.downloaded = u32::MAX;
    let read = RecordBatch::decode(&encoded(&batch)).unwrap().batch;
    assert_eq!((read.age, read.records[0].peer.downloaded), (Duration::from_millis(0xffff_ffff), 0x00ff_ffff));
}

fn any_news() -> impl Strategy<Value = PeerNews> {
    let role = prop_oneof![Just(Role::Leecher), Just(Role::PartialSeed), Just(Role::Seed)];
    prop_oneof![
        (any::<NonZeroU16>(), role, any::<bool>()).prop_map(|(port, role, completed)| PeerNews::Stays {
            port,
            role,
            completed
        }),
        any::<Option<NonZeroU16>>().prop_map(|port| PeerNews::Left { port }),
    ]
}

fn any_record() -> impl Strategy<Value = SharedRecord> {
    let ip = prop_oneof![any::<Ipv4Addr>().prop_map(IpAddr::from), any::<Ipv6Addr>().prop_map(IpAddr::from)];
    let peer = (ip, any::<bool>(), any::<[u8; 20]>(), any_news(), 0..=MAX_DOWNLOADED);
    let peer = peer.prop_map(|(ip, is_claim, id, news, downloaded)| PeerRecord {
        ip,
        is_claim,
        peer_id: PeerId(id),
        news,
        downloaded,
    });
    (any::<[u8; 20]>(), any::<Option<NonZeroU8>>(), peer).prop_map(|(info_hash, zone, peer)| SharedRecord {
        info_hash: InfoHash(info_hash),
        zone,
        peer,
    })
}

prop_compose! {
    fn any_batch()(
        flags: u8, instance: u64, sequence: u32, age: u32, zones_fingerprint: u64,
        records in proptest::collection::vec(any_record(), 0..20),
    ) -> RecordBatch {
        let age = Duration::from_millis(age.into());
        RecordBatch { flags, instance, sequence, age, zones_fingerprint, records }
    }
}

proptest! {
    #[test]
    fn a_batch_is_read_as_it_was_written(batch in any_batch()) {
        let bytes = encoded(&batch);
        prop_assert_eq!(RecordBatch::writer(&bytes), Some(batch.instance));
        prop_assert_eq!(RecordBatch::writer(&bytes[..HEAD - 1]), None);
        prop_assert_eq!(RecordBatch::writer(&[&[VERSION + 1], &bytes[1..]].concat()), None);
        let read = RecordBatch::decode(&bytes);
        prop_assert_eq!(read, Ok(DecodedBatch { batch, faults: Faults::default() }));
    }

    #[test]
    fn of_a_batch_that_was_cut_the_whole_records_are_read(batch in any_batch(), cut: proptest::sample::Index) {
        let bytes = encoded(&batch);
        let length = cut.index(bytes.len());
        let read = RecordBatch::decode(&bytes[..length]);
        if length < HEAD {
            prop_assert_eq!(read, Err(BatchError::Short));
            return Ok(());
        }
        let DecodedBatch { batch: read, faults } = read.unwrap();
        let count = read.records.len();
        prop_assert_eq!(&read, &RecordBatch { records: batch.records[..count].to_vec(), ..batch.clone() });
        let whole = encoded(&read).len();
        prop_assert_eq!(faults, Faults { cut: usize::from(whole < length), ..Faults::default() });
    }

    #[test]
    fn any_bytes_are_read_or_refused_and_what_is_read_is_well_formed(mut bytes: Vec<u8>, has_version: bool) {
        if let Some(first) = bytes.first_mut().filter(|_| has_version) {
            *first = VERSION;
        }
        if let Ok(DecodedBatch { batch, faults }) = RecordBatch::decode(&bytes) {
            prop_assert_eq!(RecordBatch::decode(&encoded(&batch)).unwrap().batch, batch.clone());
            let Faults { kind, port, cut, surplus } = faults;
            prop_assert!((batch.records.len() + kind + port) * RECORD_V4 + cut + surplus <= bytes.len());
        }
    }
}
