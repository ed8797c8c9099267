//! The store on real folders.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use proptest::prelude::*;
use tempfile::TempDir;

use super::layout::StoreFolder;
use super::*;
use crate::content::WrongContent;
use crate::digest::Digest;

const BLOCK: u64 = 4096;

fn limits(quota: u64) -> StoreLimits {
    StoreLimits { quota: DiskShare::Bytes(quota), min_free: DiskShare::Bytes(0) }
}

fn open(folder: &TempDir, quota: u64) -> BlobStore {
    BlobStore::open(folder.path(), limits(quota)).unwrap()
}

/// Returns a blob of one block.
fn blob(seed: u8) -> (Digest, Vec<u8>) {
    let bytes = vec![seed; 4096];
    (Digest::of(&bytes), bytes)
}

fn put(store: &BlobStore, bytes: &[u8]) -> StoredBlob {
    let mut incoming = store.begin(&Digest::of(bytes).into(), Some(bytes.len() as u64)).unwrap();
    bytes.chunks(1000).for_each(|chunk| incoming.append(chunk).unwrap());
    incoming.commit().unwrap()
}

fn content(blob: &StoredBlob) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(blob.length()).unwrap()];
    blob.file().read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

fn path_of(folder: &TempDir, digest: &Digest) -> PathBuf {
    folder.path().join("blobs/sha256").join(&digest.hex()[..2]).join(digest.hex())
}

/// Sets a blob's last use to so many hours ago.
fn age(folder: &TempDir, digest: &Digest, hours: u64) {
    let file = File::open(path_of(folder, digest)).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_hours(hours)).unwrap();
}

fn is_stored(folder: &TempDir, digest: &Digest) -> bool {
    path_of(folder, digest).exists()
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let (folders, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    files.into_iter().chain(folders.iter().flat_map(|folder| files_below(folder))).collect()
}

fn incoming_files(folder: &TempDir) -> usize {
    fs::read_dir(folder.path().join("incoming")).unwrap().count()
}

#[test]
fn a_blob_is_found_after_it_is_committed_and_by_the_next_process() {
    let folder = TempDir::new().unwrap();
    let store = open(&folder, 1 << 20);
    let (digest, bytes) = blob(1);
    let mut incoming = store.begin(&digest.into(), None).unwrap();
    incoming.append(&bytes).unwrap();
    assert_eq!(incoming.written(), 4096);
    assert!(store.find(&digest).unwrap().is_none());
    assert_eq!(content(&incoming.commit().unwrap()), bytes);
    assert_eq!(content(&store.find(&digest).unwrap().unwrap()), bytes);
    let usage = store.usage().unwrap();
    assert_eq!((usage.bytes, usage.blobs, usage.quota), (BLOCK, 1, 1 << 20));
    drop(store);
    let store = open(&folder, 1 << 20);
    assert_eq!(content(&store.find(&digest).unwrap().unwrap()), bytes);
    assert_eq!(store.usage().unwrap().bytes, BLOCK);
}

#[test]
fn an_empty_blob_is_a_blob() {
    let folder = TempDir::new().unwrap();
    let store = open(&folder, 1 << 20);
    assert_eq!(put(&store, b"").length(), 0);
    assert_eq!(store.find(&Digest::of(b"")).unwrap().unwrap().length(), 0);
}

#[test]
fn a_wrong_blob_leaves_nothing() {
    let folder = TempDir::new().unwrap();
    let store = open(&folder, 1 << 20);
    let (digest, _) = blob(1);
    let mut incoming = store.begin(&digest.into(), None).unwrap();
    incoming.append(b"other bytes").unwrap();
    let Err(CommitError::Wrong(WrongContent::Digest { expected, got })) = incoming.commit() else {
        panic!("committed")
    };
    assert_eq!((expected, got), (digest, Digest::of(b"other bytes")));
    assert!(store.find(&digest).unwrap().is_none());
    assert_eq!(files_below(folder.path()), [folder.path().join("lock")]);
    assert_eq!(store.usage().unwrap().bytes, 0);
}

#[test]
fn a_blob_that_is_not_committed_leaves_nothing_and_stays_readable() {
    let folder = TempDir::new().unwrap();
    let store = open(&folder, 2 * BLOCK);
    let (digest, bytes) = blob(1);
    let mut incoming = store.begin(&digest.into(), Some(2 * BLOCK)).unwrap();
    incoming.append(&bytes).unwrap();
    let spool = incoming.file();
    drop(incoming);
    assert_eq!(incoming_files(&folder), 0);
    let mut read = vec![0; 4096];
    spool.read_exact_at(&mut read, 0).unwrap();
    assert_eq!(read, bytes);
    // The room of the dropped blob is free again.
    drop(store.begin(&digest.into(), Some(2 * BLOCK)).unwrap());
}

#[test]
fn the_hash_so_far_is_of_what_was_written() {
    let folder = TempDir::new().unwrap();
    let store = open(&folder, BLOCK);
    let mut incoming = store.begin(&Digest::of(b"abc").into(), None).unwrap();
    incoming.append(b"abc").unwrap();
    // These bytes exceed the quota, so none of them is written or hashed.
    assert_eq!(incoming.append(&[0; 5000]).unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert_eq!((incoming.written(), incoming.verifier().clone().finish()), (3, Ok(Digest::of(b"abc"))));
    incoming.commit().unwrap();
}

#[test]
fn the_blob_that_was_not_used_for_the_longest_time_is_evicted_first() {
    let folder = TempDir::new().unwrap();
    let store = open(&folder, 3 * BLOCK);
    let [a, b, c, d] = [1, 2, 3, 4].map(blob);
    for ((digest, bytes), hours) in [(&a, 5), (&b, 9), (&c, 7)] {
        put(&store, bytes);
        age(&folder, digest, hours);
    }
    put(&store, &d.1);
    assert_eq!([&a, &b, &c, &d].map(|blob| is_stored(&folder, &blob.0)), [true, false, true, true]);
    // After this use of `c`, the last use of `a` is the oldest.
    assert!(store.find(&c.0).unwrap().is_some());
    put(&store, &b.1);
    assert_eq!([&a, &b, &c, &d].map(|blob| is_stored(&folder, &blob.0)), [false, true, true, true]);
    let usage = store.usage().unwrap();
    assert_eq!((usage.bytes, usage.blobs), (3 * BLOCK, 3));
}

/// Evicts files until there is room for so many blocks.
fn make_room(store: &BlobStore, blocks: u64) {
    drop(store.begin(&Digest::of(b"other").into(), Some(blocks * BLOCK)).unwrap());
}

#[test]
fn what_other_hosts_have_is_evicted_before_last_copies() {
    let folder = TempDir::new().unwrap();
    let store = open(&folder, 5 * BLOCK);
    let blobs = [1, 2, 3, 4, 5].map(|seed| put(&store, &blob(seed).1).digest());
    blobs.iter().zip([50, 40, 30, 20, 10]).for_each(|(digest, hours)| age(&folder, digest, hours));
    [blobs[1], blobs[3]].iter().for_each(|digest| store.set_elsewhere(*digest, true));
    let mut expected = [true; 5];
    for gone in [1, 3, 0, 2, 4] {
        expected[gone] = false;
        make_room(&store, 5 - expected.iter().filter(|is_there| **is_there).count() as u64);
        assert_eq!(blobs.map(|digest| is_stored(&folder, &digest)), expected);
    }
}

#[test]
fn what_the_tracker_says_after_the_walk_counts() {
    let folder = TempDir::new().unwrap();
    let store = open(&folder, 4 * BLOCK);
    let blobs = [1, 2, 3, 4].map(|seed| put(&store, &blob(seed).1).digest());
    blobs.iter().zip([50, 40, 30, 20]).for_each(|(digest, hours)| age(&folder, digest, hours));
    let there = || blobs.map(|digest| is_stored(&folder, &digest));
    store.set_elsewhere(blobs[2], true);
    // The walk chooses the third and the fourth blob, then the others by age. Then the fourth becomes a last copy.
    store.set_elsewhere(blobs[3], true);
    make_room(&store, 1);
    assert_eq!(there(), [true, true, false, true]);
    store.set_elsewhere(blobs[3], false);
    make_room(&store, 2);
    assert_eq!(there(), [false, true, false, true]);
    // The walk's next candidate is the second blob. The fourth goes first, because another host has it again.
    store.set_elsewhere(blobs[3], true);
    make_room(&store, 3);
    assert_eq!(there(), [false, true, false, false]);
}

#[test]
fn a_last_copy_that_nobody_wants_does_not_stay_for_ever() {
    let folder = TempDir::new().unwrap();
    let store = open(&folder, 3 * BLOCK);
    let blobs = [1, 2, 3].map(|seed| put(&store, &blob(seed).1).digest());
    let day = 24;
    blobs.iter().zip([30 * day, 30 * day - 1, day]).for_each(|(digest, hours)| age(&folder, digest, hours));
    store.set_elsewhere(blobs[2], true);
    make_room(&store, 1);
    assert_eq!(blobs.map(|digest| is_stored(&folder, &digest)), [false, true, true]);
    make_room(&store, 2);
    assert_eq!(blobs.map(|digest| is_stored(&folder, &digest)), [false, true, false]);
}

/// Returns a list that grows with each blob that the store removes.
fn removals(store: &BlobStore) -> Arc<Mutex<Vec<Digest>>> {
    let removed = Arc::<Mutex<Vec<Digest>>>::default();
    let seen = Arc::clone(&removed);
    store.on_removal(move |digest| seen.lock().push(digest));
    removed
}

#[test]
fn a_torrent_file_goes_with_its_blob_and_not_before() {
    let folder = TempDir::new().unwrap();
    let store = open(&folder, 4 * BLOCK);
    let removed = removals(&store);
    let [a, b] = [1, 2].map(|seed| put(&store, &blob(seed).1).digest());
    let torrent = |digest| StoredTorrent { digest, file: b"file".to_vec() };
    let records = || files_below(&folder.path().join("torrents"));
    assert!(store.put_torrent("a", &torrent(a)).unwrap());
    // The torrent file is the oldest file of all, but stays with its blob.
    File::open(&records()[0]).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
    age(&folder, &a, 5);
    age(&folder, &b, 9);
    make_room(&store, 2);
    assert_eq!((is_stored(&folder, &a), is_stored(&folder, &b), records().len()), (true, false, 1));
    make_room(&store, 3);
    assert_eq!((is_stored(&folder, &a), records().len(), &*removed.lock()), (false, 0, &vec![b, a]));
    assert_eq!(store.usage().unwrap().bytes, 0);
    // A torrent file whose blob is gone is not stored.
    assert!(!store.put_torrent("a", &torrent(a)).unwrap());
    assert_eq!((records().len(), store.usage().unwrap().bytes), (0, 0));
    // A damaged blob takes its torrent files with it as well.
    let blob = put(&store, &blob(1).1);
    store.put_torrent("a", &torrent(a)).unwrap();
    store.put_torrent("other", &torrent(a)).unwrap();
    blob.discard();
    assert_eq!((records().len(), &*removed.lock()), (0, &vec![b, a, a]));
}

#[test]
fn the_next_process_keeps_torrent_files_that_it_has_visited() {
    let folder = TempDir::new().unwrap();
    let store = open(&folder, 4 * BLOCK);
    let [a, b] = [1, 2].map(|seed| put(&store, &blob(seed).1).digest());
    for (key, digest) in [("a", a), ("b", b)] {
        store.put_torrent(key, &StoredTorrent { digest, file: Vec::new() }).unwrap();
    }
    drop(store);
    fs::remove_file(path_of(&folder, &b)).unwrap();
    let store = open(&folder, 4 * BLOCK);
    let mut visited = Vec::new();
    store
        .torrents(|torrent| {
            visited.push(torrent.digest);
            true
        })
        .unwrap();
    visited.sort_unstable();
    let mut both = vec![a, b];
    both.sort_unstable();
    assert_eq!(visited, both);
    assert!(store.torrent("b").unwrap().is_none());
    age(&folder, &a, 1);
    make_room(&store, 2);
    assert!(store.torrent("a").unwrap().is_some() && is_stored(&folder, &a));
    make_room(&store, 3);
    assert!(store.torrent("a").unwrap().is_none() && !is_stored(&folder, &a));
}

/// A step of the property test, with a few blobs.
#[derive(Clone, Debug)]
enum StoreStep {
    Put(u8),
    Open(u8),
    Close,
    Elsewhere(u8, bool),
    Torrent(u8),
    Age(u8, u64),
    MakeRoom(u64),
}

fn store_step() -> impl Strategy<Value = StoreStep> {
    let seed = || 0..8_u8;
    prop_oneof![
        4 => seed().prop_map(StoreStep::Put),
        1 => seed().prop_map(StoreStep::Open),
        1 => Just(StoreStep::Close),
        2 => (seed(), any::<bool>()).prop_map(|(seed, is_elsewhere)| StoreStep::Elsewhere(seed, is_elsewhere)),
        2 => seed().prop_map(StoreStep::Torrent),
        2 => (seed(), 0..1000_u64).prop_map(|(seed, hours)| StoreStep::Age(seed, hours)),
        2 => (1..6_u64).prop_map(StoreStep::MakeRoom),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn the_quota_is_kept_and_what_is_in_use_stays(steps in proptest::collection::vec(store_step(), 1..40)) {
        const QUOTA: u64 = 6 * BLOCK;
        let folder = TempDir::new().unwrap();
        let store = open(&folder, QUOTA);
        let removed = removals(&store);
        let (mut open, mut placed) = (Vec::new(), HashSet::new());
        for step in steps {
            match step {
                StoreStep::Put(seed) => {
                    let (digest, bytes) = blob(seed);
                    if let Ok(mut incoming) = store.begin(&digest.into(), Some(BLOCK)) {
                        incoming.append(&bytes).unwrap();
                        incoming.commit().unwrap();
                        removed.lock().retain(|gone| *gone != digest);
                        placed.insert(digest);
                    }
                }
                StoreStep::Open(seed) => open.extend(store.find(&blob(seed).0).unwrap()),
                StoreStep::Close => drop(open.pop()),
                StoreStep::Elsewhere(seed, is_elsewhere) => store.set_elsewhere(blob(seed).0, is_elsewhere),
                StoreStep::Torrent(seed) => {
                    let torrent = StoredTorrent { digest: blob(seed).0, file: vec![seed] };
                    // This fails if there is no room for the torrent file.
                    let _kept = store.put_torrent(&seed.to_string(), &torrent);
                }
                StoreStep::Age(seed, hours) if is_stored(&folder, &blob(seed).0) => age(&folder, &blob(seed).0, hours),
                StoreStep::Age(..) => {}
                StoreStep::MakeRoom(blocks) => drop(store.begin(&Digest::of(b"x").into(), Some(blocks * BLOCK))),
            }
            let files: Vec<_> = files_below(folder.path());
            let blocks = files.iter().filter(|file| fs::metadata(file).unwrap().len() > 0).count() as u64;
            prop_assert!(blocks * BLOCK <= QUOTA, "{files:?}");
            prop_assert_eq!(store.usage().unwrap().bytes, blocks * BLOCK);
            prop_assert!(open.iter().all(|blob| is_stored(&folder, &blob.digest())));
            // Each blob is stored, or the hook was told of its removal. A torrent file is stored only with its blob.
            for digest in &placed {
                prop_assert_eq!(is_stored(&folder, digest), !removed.lock().contains(digest));
            }
            for seed in 0..8_u8 {
                let name = Digest::of(seed.to_string().as_bytes()).hex();
                let has_torrent = folder.path().join("torrents").join(&name[..2]).join(&name).exists();
                prop_assert!(!has_torrent || is_stored(&folder, &blob(seed).0), "{seed}");
            }
        }
    }
}

#[test]
fn a_use_is_written_to_the_disk_once_an_hour() {
    let folder = TempDir::new().unwrap();
    let store = open(&folder, 1 << 20);
    let (digest, bytes) = blob(1);
    put(&store, &bytes);
    let used_at = || fs::metadata(path_of(&folder, &digest)).unwrap().modified().unwrap();
    let set = |time| File::open(path_of(&folder, &digest)).unwrap().set_modified(time).unwrap();
    let recently = SystemTime::now() - Duration::from_mins(30);
    set(recently);
    store.find(&digest).unwrap();
    assert_eq!(used_at(), recently);
    for wrong in [SystemTime::now() - Duration::from_secs(3601), SystemTime::now() + Duration::from_hours(24)] {
        set(wrong);
        store.find(&digest).unwrap();
        assert!(SystemTime::now().duration_since(used_at()).unwrap() < Duration::from_mins(30));
    }
}

#[test]
fn a_blob_that_is_read_is_not_evicted() {
    let folder = TempDir::new().unwrap();
    let store = open(&folder, 2 * BLOCK);
    let [a, b, c] = [1, 2, 3].map(blob);
    put(&store, &a.1);
    put(&store, &b.1);
    age(&folder, &a.0, 9);
    age(&folder, &b.0, 5);
    let reader = store.find(&a.0).unwrap().unwrap();
    // The look-up made `a` the newest blob. Now it is the oldest again, so only the reader protects it.
    age(&folder, &a.0, 9);
    let committed = put(&store, &c.1);
    assert_eq!([&a, &b, &c].map(|blob| is_stored(&folder, &blob.0)), [true, false, true]);
    // The readers of `a` and `c` keep both from being evicted, so there is no room for `b`.
    assert_eq!(store.begin(&b.0.into(), Some(BLOCK)).err().unwrap().kind(), io::ErrorKind::StorageFull);
    assert_eq!(content(&reader), a.1);
    let second = reader.clone();
    drop(reader);
    assert!(store.begin(&b.0.into(), Some(BLOCK)).is_err());
    drop(second);
    put(&store, &b.1);
    assert_eq!([&a, &b, &c].map(|blob| is_stored(&folder, &blob.0)), [false, true, true]);
    drop(committed);
}

#[test]
fn a_blob_is_not_evicted_if_it_came_into_use_after_it_was_chosen() {
    let folder = TempDir::new().unwrap();
    let store = open(&folder, 3 * BLOCK);
    let [a, b, c, d] = [1, 2, 3, 4].map(blob);
    for ((digest, bytes), minutes) in [(&a, 9), (&b, 8), (&c, 7)] {
        put(&store, bytes);
        let file = File::open(path_of(&folder, digest)).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_mins(minutes)).unwrap();
    }
    put(&store, &d.1);
    assert!(!is_stored(&folder, &a.0));
    // This use is not written to the disk, because the use on the disk is less than an hour old.
    let reader = store.find(&b.0).unwrap().unwrap();
    put(&store, &a.1);
    assert_eq!([&a, &b, &c, &d].map(|blob| is_stored(&folder, &blob.0)), [true, true, false, true]);
    drop(reader);
}

#[test]
fn a_blob_larger_than_the_quota_evicts_nothing() {
    let folder = TempDir::new().unwrap();
    let store = open(&folder, 2 * BLOCK);
    let (digest, bytes) = blob(1);
    put(&store, &bytes);
    let large = Digest::of(b"large");
    for length in [2 * BLOCK + 1, u64::MAX] {
        assert_eq!(store.begin(&large.into(), Some(length)).err().unwrap().kind(), io::ErrorKind::StorageFull);
    }
    assert!(is_stored(&folder, &digest));
    assert_eq!(incoming_files(&folder), 0);
}

#[test]
fn what_is_being_written_counts() {
    let folder = TempDir::new().unwrap();
    let store = open(&folder, 2 * BLOCK);
    let [a, b] = [1, 2].map(blob);
    let first = store.begin(&a.0.into(), Some(2 * BLOCK)).unwrap();
    assert!(store.begin(&b.0.into(), Some(1)).is_err());
    drop(first);
    assert!(store.begin(&b.0.into(), Some(1)).is_ok());
}

#[test]
fn a_blob_without_a_length_makes_room_as_it_grows() {
    let folder = TempDir::new().unwrap();
    let store = open(&folder, 2 * BLOCK);
    let [a, b] = [1, 2].map(blob);
    put(&store, &a.1);
    put(&store, &b.1);
    age(&folder, &a.0, 2);
    let mut incoming = store.begin(&Digest::of(b"?").into(), None).unwrap();
    assert!(is_stored(&folder, &a.0));
    incoming.append(b"?").unwrap();
    assert_eq!([&a, &b].map(|blob| is_stored(&folder, &blob.0)), [false, true]);
    incoming.commit().unwrap();
}

#[test]
fn space_for_others_stays_free() {
    let folder = TempDir::new().unwrap();
    let none_free = StoreLimits { quota: DiskShare::Percent(100), min_free: DiskShare::Percent(100) };
    let store = BlobStore::open(folder.path(), none_free).unwrap();
    let (digest, _) = blob(1);
    for length in [Some(1), None] {
        assert_eq!(store.begin(&digest.into(), length).err().unwrap().kind(), io::ErrorKind::StorageFull);
    }
    assert_eq!(incoming_files(&folder), 0);
}

#[test]
fn a_file_that_somebody_removed_is_not_counted_for_ever() {
    let folder = TempDir::new().unwrap();
    let store = open(&folder, 2 * BLOCK);
    let [a, b, c] = [1, 2, 3].map(blob);
    put(&store, &a.1);
    put(&store, &b.1);
    fs::remove_file(path_of(&folder, &a.0)).unwrap();
    assert!(store.find(&a.0).unwrap().is_none());
    put(&store, &c.1);
    assert_eq!([&b, &c].map(|blob| is_stored(&folder, &blob.0)), [true, true]);
    assert_eq!(store.usage().unwrap().blobs, 2);
    // The sums are right again even if all files were removed by hand.
    [&b, &c].iter().for_each(|blob| fs::remove_file(path_of(&folder, &blob.0)).unwrap());
    put(&store, &a.1);
    assert_eq!(store.usage().unwrap().blobs, 1);
}

#[test]
fn many_more_files_than_one_walk_remembers_are_evicted_in_order() {
    let folder = TempDir::new().unwrap();
    let store = open(&folder, 1 << 30);
    let digests: Vec<_> = (0..2500_u32).map(|number| Digest::of(&number.to_be_bytes())).collect();
    // The test writes the files itself, because 2,500 commits with their syncs take long.
    for (number, digest) in (0..).zip(&digests) {
        fs::create_dir_all(path_of(&folder, digest).parent().unwrap()).unwrap();
        fs::write(path_of(&folder, digest), b"x").unwrap();
        age(&folder, digest, 3000 - number);
    }
    drop(store);
    let store = open(&folder, 2500 * BLOCK);
    drop(store.begin(&Digest::of(b"large").into(), Some(2200 * BLOCK)).unwrap());
    let left: Vec<_> = digests.iter().filter(|digest| is_stored(&folder, digest)).collect();
    assert_eq!(left, digests[2200..].iter().collect::<Vec<_>>());
    assert_eq!(store.usage().unwrap().blobs, 300);
}

#[test]
fn the_start_removes_what_was_incoming_and_leaves_alone_what_is_not_ours() {
    let folder = TempDir::new().unwrap();
    let (digest, bytes) = blob(1);
    put(&open(&folder, 1 << 20), &bytes);
    let foreign = ["notes.txt", "blobs/sha256/zz", "blobs/sha256/ab/x.tmp", "tags/README", "blobs/sha256/cd"];
    let foreign = foreign.map(|name| folder.path().join(name));
    for path in &foreign {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, b"mine").unwrap();
    }
    // A digest in the folder of another prefix is not a file of the store.
    let misplaced = folder.path().join("blobs/sha256/ab").join("00".repeat(32));
    fs::write(&misplaced, b"mine").unwrap();
    fs::write(folder.path().join("incoming/7.part"), b"half").unwrap();
    fs::create_dir(folder.path().join("incoming/folder")).unwrap();
    let store = open(&folder, 1 << 20);
    assert_eq!(incoming_files(&folder), 0);
    assert!(foreign.iter().chain([&misplaced]).all(|path| fs::read(path).unwrap() == b"mine"));
    assert_eq!(store.usage().unwrap().bytes, BLOCK);
    assert_eq!(content(&store.find(&digest).unwrap().unwrap()), bytes);
    // Eviction does not touch these files either.
    assert!(store.begin(&digest.into(), Some((1 << 20) - BLOCK + 1)).is_ok());
    assert!(!is_stored(&folder, &digest) && foreign.iter().all(|path| path.exists()));
}

#[test]
fn a_folder_that_is_not_a_store_keeps_its_incoming_files() {
    let folder = TempDir::new().unwrap();
    fs::create_dir(folder.path().join("incoming")).unwrap();
    fs::write(folder.path().join("incoming/letter"), b"mine").unwrap();
    let fault = BlobStore::open(folder.path(), limits(1)).err().unwrap();
    assert!(matches!(fault, StoreFault::NotAStore(_)), "{fault}");
    // The second attempt must fail as well: the first must not leave a lock file.
    assert!(matches!(BlobStore::open(folder.path(), limits(1)).err(), Some(StoreFault::NotAStore(_))));
    assert!(folder.path().join("incoming/letter").exists());
}

#[test]
fn a_second_user_of_the_folder_is_refused() {
    let folder = TempDir::new().unwrap();
    let first = open(&folder, 1 << 20);
    let fault = BlobStore::open(folder.path(), limits(1 << 20)).err().unwrap();
    let expected = ": another torrent-cache uses this folder; give each its own, or stop the other one";
    assert_eq!(fault.to_string(), format!("{}{expected}", folder.path().display()));
    drop(first);
    open(&folder, 1 << 20);
}

#[test]
fn a_folder_that_cannot_be_made_is_an_error() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("file"), b"").unwrap();
    let fault = BlobStore::open(&folder.path().join("file/storage"), limits(1)).err().unwrap();
    assert!(matches!(fault, StoreFault::Disk { .. }), "{fault}");
}

#[test]
fn manifests_are_kept_with_their_media_type() {
    let folder = TempDir::new().unwrap();
    let store = open(&folder, 1 << 20);
    let bytes = b"{\n\"schemaVersion\": 2}".to_vec();
    let digest = Digest::of(&bytes);
    let manifest = cached("application/vnd.oci.image.manifest.v1+json", &bytes);
    let here = delivery("a", digest);
    assert_eq!(store.manifest(&here).unwrap(), None);
    store.put_manifest(&here, &manifest).unwrap();
    assert_eq!(store.manifest(&here).unwrap(), Some(manifest.clone()));
    // Another upstream's manifest is there only once that upstream has delivered it, with its own media type.
    let there = delivery("b", digest);
    assert_eq!(store.manifest(&there).unwrap(), None);
    store.put_manifest(&there, &cached("text/html", &bytes)).unwrap();
    assert_eq!(store.manifest(&there).unwrap(), Some(cached("text/html", &bytes)));
    assert_eq!(store.manifest(&here).unwrap(), Some(manifest));
    for wrong in [cached("a", b"other"), cached("a\nb", &bytes)] {
        assert_eq!(store.put_manifest(&here, &wrong).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
    // A stored manifest is not a stored blob.
    assert!(store.find(&digest).unwrap().is_none());
}

#[test]
fn a_damaged_manifest_is_removed() {
    let folder = TempDir::new().unwrap();
    let store = open(&folder, 1 << 20);
    let digest = Digest::of(b"{}");
    let (here, manifest) = (delivery("a", digest), cached("a", b"{}"));
    store.put_manifest(&here, &manifest).unwrap();
    let path = folder.path().join("manifests/sha256").join(&digest.hex()[..2]).join(digest.hex());
    for damaged in [&b"a\n{]"[..], b"", b"a{}", b"\xff\n{}"] {
        fs::write(&path, damaged).unwrap();
        assert_eq!(store.manifest(&here).unwrap(), None);
        assert!(!path.exists());
    }
    store.put_manifest(&here, &manifest).unwrap();
    assert!(store.manifest(&here).unwrap().is_some());
}

#[test]
fn a_blob_is_an_upstreams_once_that_one_has_delivered_it() {
    let folder = TempDir::new().unwrap();
    let store = open(&folder, 1 << 20);
    let (digest, bytes) = blob(1);
    put(&store, &bytes);
    let here = delivery("a", digest);
    let others = [
        delivery("b", digest),
        delivery("a", Digest::of(b"other")),
        Delivery { repository: "../../../x".to_owned(), ..here.clone() },
        Delivery { upstream: "axx".to_owned(), repository: "y".to_owned(), digest },
    ];
    assert!(!store.is_delivered(&here).unwrap());
    store.put_delivered(&here).unwrap();
    assert!(store.is_delivered(&here).unwrap());
    // The delivery of a blob is not the delivery of a manifest of this digest.
    assert!(store.manifest(&here).unwrap().is_none());
    for other in &others {
        assert!(!store.is_delivered(other).unwrap(), "{other:?}");
    }
}

fn delivery(upstream: &str, digest: Digest) -> Delivery {
    Delivery { upstream: upstream.to_owned(), repository: "x/y".to_owned(), digest }
}

fn cached(media_type: &str, bytes: &[u8]) -> CachedManifest {
    CachedManifest { media_type: media_type.to_owned(), bytes: bytes.to_owned() }
}

#[test]
fn tags_are_replaced_and_hostile_names_stay_inside() {
    let folder = TempDir::new().unwrap();
    let inner = folder.path().join("storage");
    let store = BlobStore::open(&inner, limits(1 << 20)).unwrap();
    let long = "x".repeat(100_000);
    let texts = ["", "latest", "../../../etc/passwd", "/etc/passwd", "a\0b", "..", ".", "ä/\n", &long];
    let entry = |number: usize, seconds: u64| TagEntry {
        digest: Digest::of(&number.to_be_bytes()),
        media_type: "text/plain; charset=\"ü\"".to_owned(),
        checked_at: SystemTime::UNIX_EPOCH + Duration::from_secs(seconds),
    };
    let keys: Vec<_> = (texts.iter())
        .flat_map(|text| {
            let key = TagKey { upstream: "u", repository: "r", tag: "t", accept: "a" };
            [
                TagKey { upstream: text, ..key },
                TagKey { repository: text, ..key },
                TagKey { tag: text, ..key },
                TagKey { accept: text, ..key },
            ]
        })
        .collect();
    for (number, key) in keys.iter().enumerate() {
        assert_eq!(store.tag(key).unwrap(), None);
        store.put_tag(key, &entry(number, 1)).unwrap();
        store.put_tag(key, &entry(number, 2)).unwrap();
    }
    for (number, key) in keys.iter().enumerate() {
        assert_eq!(store.tag(key).unwrap(), Some(entry(number, 2)), "{key:?}");
    }
    // One file has all `Accept` values of a tag.
    assert_eq!(files_below(&inner.join("tags")).len(), 3 * texts.len() + 1);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    // The upstream `ur` without a repository is not the upstream `u` with the repository `r`.
    let near = TagKey { upstream: "ur", repository: "", tag: "t", accept: "a" };
    assert_eq!(store.tag(&near).unwrap(), None);
}

#[test]
fn a_tag_keeps_the_last_sixteen_accepts() {
    let folder = TempDir::new().unwrap();
    let store = open(&folder, 1 << 20);
    let accepts: Vec<_> = (0..100).map(|number| format!("type/{number}")).collect();
    let key = |number: usize| TagKey { upstream: "u", repository: "r", tag: "t", accept: &accepts[number] };
    let entry = |number: usize| TagEntry {
        digest: Digest::of(&number.to_be_bytes()),
        media_type: "a b/c".to_owned(),
        checked_at: SystemTime::UNIX_EPOCH,
    };
    for number in 0..100 {
        store.put_tag(&key(number), &entry(number)).unwrap();
        // The first `Accept` is stored again after each other one, so it stays among the last sixteen.
        store.put_tag(&key(0), &entry(0)).unwrap();
    }
    for number in 0..100 {
        let expected = (number == 0 || number >= 85).then(|| entry(number));
        assert_eq!(store.tag(&key(number)).unwrap(), expected, "{number}");
    }
    assert_eq!(files_below(&folder.path().join("tags")).len(), 1);
}

#[test]
fn deltas_are_found_by_their_url() {
    let folder = TempDir::new().unwrap();
    let store = open(&folder, 1 << 20);
    let digest = Digest::of(b"delta");
    assert_eq!(store.delta("http://host/deltas/../../x").unwrap(), None);
    store.put_delta("http://host/deltas/../../x", &digest).unwrap();
    assert_eq!(store.delta("http://host/deltas/../../x").unwrap(), Some(digest));
    assert_eq!(store.delta("http://host/x").unwrap(), None);
}

#[test]
fn records_count_and_are_evicted_like_blobs() {
    let folder = TempDir::new().unwrap();
    let store = open(&folder, 2 * BLOCK);
    let key = |tag| TagKey { upstream: "u", repository: "r", tag, accept: "" };
    let entry = TagEntry { digest: Digest::of(b""), media_type: String::new(), checked_at: SystemTime::UNIX_EPOCH };
    store.put_tag(&key("a"), &entry).unwrap();
    let [only] = &files_below(&folder.path().join("tags"))[..] else { panic!("one tag") };
    File::open(only).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
    store.put_tag(&key("b"), &entry).unwrap();
    store.put_tag(&key("c"), &entry).unwrap();
    assert_eq!(["a", "b", "c"].map(|tag| store.tag(&key(tag)).unwrap().is_some()), [false, true, true]);
    let usage = store.usage().unwrap();
    assert_eq!((usage.bytes, usage.blobs), (2 * BLOCK, 0));
}

/// Makes a sparse file of zeros, which takes no room on the disk, as the blob of the digest of `name`.
fn sparse(folder: &TempDir, name: &[u8], length: u64) -> Digest {
    let digest = Digest::of(name);
    fs::create_dir_all(path_of(folder, &digest).parent().unwrap()).unwrap();
    File::create(path_of(folder, &digest)).unwrap().set_len(length).unwrap();
    digest
}

#[test]
fn an_announced_length_evicts_nothing_before_its_bytes_come() {
    let folder = TempDir::new().unwrap();
    drop(open(&folder, 1));
    let [a, b] = [b"a", b"b"].map(|name| sparse(&folder, name, 100 << 20));
    age(&folder, &a, 9);
    age(&folder, &b, 5);
    let store = open(&folder, 280 << 20);
    let mut incoming = store.begin(&Digest::of(b"c").into(), Some(100 << 20)).unwrap();
    let piece = vec![0; 1 << 20];
    (0..64).for_each(|_| incoming.append(&piece).unwrap());
    assert_eq!([&a, &b].map(|digest| is_stored(&folder, digest)), [true, true]);
    incoming.append(&piece).unwrap();
    assert_eq!([&a, &b].map(|digest| is_stored(&folder, digest)), [false, true]);
}

#[test]
fn one_blob_does_not_get_more_than_half_of_the_quota() {
    let folder = TempDir::new().unwrap();
    let store = open(&folder, 200 << 20);
    let digest = Digest::of(b"large");
    assert!(store.begin(&digest.into(), Some(100 << 20)).is_ok());
    assert_eq!(store.begin(&digest.into(), Some((100 << 20) + 1)).err().unwrap().kind(), io::ErrorKind::StorageFull);
    // Without an announced length, the blob gets no more than half of the quota either.
    let mut incoming = store.begin(&digest.into(), None).unwrap();
    let piece = vec![0; 50 << 20];
    incoming.append(&piece).unwrap();
    incoming.append(&piece).unwrap();
    assert_eq!(incoming.append(b"x").unwrap_err().kind(), io::ErrorKind::StorageFull);
}

#[test]
fn other_users_of_the_host_cannot_look_in() {
    let outer = TempDir::new().unwrap();
    let root = outer.path().join("storage");
    let store = BlobStore::open(&root, limits(1 << 20)).unwrap();
    put(&store, b"x");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!([root.clone(), root.join("blobs"), root.join("incoming")].map(|path| mode(&path)), [0o700; 3]);
    let files = files_below(&root);
    assert_eq!(files.len(), 2);
    for file in files {
        assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o600, 0o700), "{}", file.display());
    }
}

#[test]
fn a_folder_that_others_can_look_into_is_found() {
    let folder = TempDir::new().unwrap();
    drop(open(&folder, 1));
    let layout = StoreFolder::new(folder.path());
    let set = |path: PathBuf, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    set(folder.path().to_owned(), 0o700);
    set(folder.path().join("blobs"), 0o755);
    assert_eq!(layout.open_to_others().unwrap(), None);
    set(folder.path().to_owned(), 0o755);
    assert_eq!(layout.open_to_others().unwrap(), Some(folder.path().join("blobs")));
    set(folder.path().join("blobs"), 0o700);
    assert_eq!(layout.open_to_others().unwrap(), None);
}
