use super::*;
use tracker_protocol::metainfo::{MIN_PIECE_LENGTH, MetainfoParts};

const DAY: u32 = 24 * 3600 * 10;

fn at(tenths: u32) -> Timestamp {
    Timestamp::from_tenths(tenths)
}

fn blob(text: &str) -> BlobKey {
    BlobKey::parse(text.as_bytes()).unwrap()
}

fn file(name: &str, pieces: u16) -> Vec<u8> {
    let metainfo = Metainfo::new(MetainfoParts {
        name: name.to_owned(),
        length: u64::from(pieces) * u64::from(MIN_PIECE_LENGTH),
        piece_length: MIN_PIECE_LENGTH,
        piece_hashes: vec![[0; 20]; pieces.into()],
        private: false,
        source: None,
    });
    metainfo.unwrap().encode()
}

fn ip(n: u8) -> IpAddr {
    [10, 0, 0, n].into()
}

/// Makes a cache of a megabyte with one file, stored at the beginning.
fn with(key: &str) -> MetainfoCache {
    let cache = MetainfoCache::new(1024 * 1024);
    assert!(matches!(cache.put(at(0), &blob(key), file("x", 1), |_| false), Ok(PutMetainfo::New(_))));
    cache
}

#[test]
fn a_blob_has_one_torrent_file() {
    let cache = with("a");
    assert!(matches!(cache.put(at(1), &blob("a"), file("x", 1), |_| false), Ok(PutMetainfo::Same(_))));
    let Ok(PutMetainfo::Conflict(there)) = cache.put(at(1), &blob("a"), file("y", 1), |_| false) else { panic!() };
    assert_eq!(there.file, file("x", 1));
    assert!(cache.put(at(1), &blob("b"), b"de".to_vec(), |_| false).is_err());
    assert_eq!(cache.get(at(1), &blob("a"), |_| false).unwrap().file, file("x", 1));
    assert!(cache.get(at(1), &blob("b"), |_| false).is_none());
    cache.remove(&blob("a"));
    assert!(cache.get(at(1), &blob("a"), |_| false).is_none());
    let Ok(PutMetainfo::New(new)) = cache.put(at(1), &blob("a"), file("y", 1), |_| false) else { panic!() };
    assert_eq!(new.index, 2);
}

#[test]
fn a_file_stays_for_a_day_after_its_swarm_had_peers() {
    let cache = with("a");
    assert!(cache.get(at(DAY - 1), &blob("a"), |_| false).is_some());
    assert!(cache.get(at(DAY), &blob("a"), |_| false).is_none());
    // A look at a file whose swarm has peers prolongs its life. So does storing it again.
    let cache = with("a");
    assert!(cache.get(at(DAY - 1), &blob("a"), |_| true).is_some());
    assert!(cache.get(at(2 * DAY - 2), &blob("a"), |_| false).is_some());
    cache.put(at(2 * DAY - 2), &blob("a"), file("x", 1), |_| false).unwrap();
    assert!(cache.get(at(3 * DAY - 3), &blob("a"), |_| false).is_some());
    // After a day without peers, another file may take its place.
    assert!(matches!(cache.put(at(3 * DAY - 2), &blob("a"), file("y", 1), |_| false), Ok(PutMetainfo::New(_))));
}

#[test]
fn housekeeping_drops_files_without_peers() {
    let cache = with("a");
    cache.put(at(0), &blob("b"), file("b", 1), |_| false).unwrap();
    let peers_of_b = cache.get(at(0), &blob("b"), |_| false).unwrap().info_hash;
    cache.housekeep(at(DAY - 1), |hash| hash == peers_of_b);
    assert_eq!(cache.size().0, 2);
    cache.housekeep(at(DAY), |hash| hash == peers_of_b);
    assert_eq!(cache.size().0, 1);
    cache.housekeep(at(2 * DAY - 1), |_| false);
    assert_eq!(cache.size().0, 1);
    cache.housekeep(at(2 * DAY), |_| false);
    assert_eq!(cache.size(), (0, 0));
    assert!(cache.writing.lock().rounds.is_empty());
}

#[test]
fn housekeeping_checks_some_files_at_a_time() {
    let cache = MetainfoCache::new(1024 * 1024);
    for n in 0..=CHECKED {
        cache.put(at(0), &blob(&n.to_string()), file("x", 1), |_| false).unwrap();
    }
    cache.housekeep(at(DAY), |_| false);
    assert_eq!(cache.size().0, 1);
    cache.housekeep(at(DAY), |_| false);
    assert_eq!(cache.size().0, 0);
}

#[test]
fn housekeeping_leaves_a_file_that_took_the_place_of_another() {
    let cache = with("a");
    let old = cache.get(at(0), &blob("a"), |_| false).unwrap();
    cache.remove(&blob("a"));
    cache.put(at(DAY), &blob("a"), file("y", 1), |_| false).unwrap();
    cache.housekeep(at(DAY), |_| false);
    assert_eq!(cache.get(at(DAY), &blob("a"), |_| false).unwrap().file, file("y", 1));
    assert_eq!(cache.writing.lock().rounds.len(), 1);
    drop(old);
}

#[test]
fn complaints_of_two_hosts_remove_a_file() {
    let cache = with("a");
    assert_eq!(cache.complain(&blob("b"), ip(1)), None);
    assert_eq!(cache.complain(&blob("a"), ip(1)), None);
    assert_eq!(cache.complain(&blob("a"), ip(1)), None);
    assert!(cache.get(at(0), &blob("a"), |_| false).is_some());
    assert_eq!(cache.complain(&blob("a"), ip(2)), Some(ip(1)));
    assert!(cache.get(at(0), &blob("a"), |_| false).is_none());
    // The next file begins without complaints.
    cache.put(at(0), &blob("a"), file("x", 1), |_| false).unwrap();
    assert_eq!(cache.complain(&blob("a"), ip(2)), None);
}

#[test]
fn the_file_that_was_used_least_recently_makes_room() {
    let cache = MetainfoCache::new(256 * 1024);
    let keys = |n: usize| blob(&n.to_string());
    for n in 0..20 {
        cache.put(at(0), &keys(n), file(&n.to_string(), 1_000), |_| true).unwrap();
        // The newest file is never refused. File 0 stays, as it is used all the time.
        assert!(cache.get(at(0), &keys(n), |_| true).is_some(), "{n}");
        assert!(cache.get(at(0), &keys(0), |_| true).is_some(), "{n}");
    }
    let (entries, bytes) = cache.size();
    assert!(entries < 20 && bytes <= 256 * 1024, "{entries} {bytes}");
    assert!(cache.get(at(0), &keys(1), |_| true).is_none());
}

#[test]
fn the_digest_differs_if_any_byte_does() {
    let digest = |file: Vec<u8>| {
        let cache = MetainfoCache::new(1024 * 1024);
        cache.put(at(0), &blob("a"), file, |_| false).unwrap();
        cache.get(at(0), &blob("a"), |_| false).unwrap().digest.clone()
    };
    let with_url = [b"d8:announce3:url", &file("x", 1)[1..]].concat();
    assert_eq!(digest(file("x", 1)), digest(file("x", 1)));
    assert_ne!(digest(file("x", 1)), digest(with_url));
    assert_eq!(digest(file("x", 1)).len(), 32);
}
