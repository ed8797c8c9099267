//! What a killed process leaves in its storage. This test is a program of its own: while a child process starts, it
//! holds the locks of its parent's open stores, and that would disturb other tests.

#![allow(clippy::unwrap_used, clippy::print_stderr)] // This is a test, and the child reports to its parent.

use std::fs;
use std::hint::black_box;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use torrent_cache::digest::Digest;
use torrent_cache::store::{BlobStore, DiskShare, StoreLimits};

/// The folder in which the child stores blobs.
const FOLDER: &str = "TORRENT_CACHE_CRASH_FOLDER";

fn open(folder: &Path) -> BlobStore {
    let limits = StoreLimits { quota: DiskShare::Bytes(4 << 20), min_free: DiskShare::Bytes(0) };
    BlobStore::open(folder, limits).unwrap()
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let (folders, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    files.into_iter().chain(folders.iter().flat_map(|folder| files_below(folder))).collect()
}

/// The child that the other test kills. It prints a line before it stores each blob. Without `FOLDER` it does nothing.
#[test]
fn child() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let store = open(Path::new(&folder));
    for number in 0_u32.. {
        let bytes = number.to_be_bytes().repeat(50_000);
        let digest = Digest::of(&bytes);
        eprintln!("blob");
        let mut incoming = store.begin(&digest.into(), Some(bytes.len() as u64)).unwrap();
        bytes.chunks(10_000).for_each(|chunk| incoming.append(chunk).unwrap());
        incoming.commit().unwrap();
        store.put_delta(&number.to_string(), &digest).unwrap();
    }
}

#[test]
fn a_killed_process_leaves_only_right_blobs() {
    let folder = tempfile::tempdir().unwrap();
    let mut blobs = 0;
    for round in 0..8 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture"])
            .env(FOLDER, folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let begun = lines.take(3 + 3 * round).filter(|line| line.as_ref().unwrap() == "blob").count();
        assert_eq!(begun, 3 + 3 * round);
        // The kill comes at another moment in each round.
        (0..round * 100_000).for_each(|turn| _ = black_box(turn));
        child.kill().unwrap();
        child.wait().unwrap();
        let store = open(folder.path());
        assert_eq!(fs::read_dir(folder.path().join("incoming")).unwrap().count(), 0);
        let files = files_below(&folder.path().join("blobs"));
        for path in &files {
            assert_eq!(Digest::of(&fs::read(path).unwrap()).hex(), path.file_name().unwrap().to_str().unwrap());
        }
        assert_eq!(store.usage().unwrap().blobs, files.len() as u64);
        blobs += files.len();
    }
    assert!(blobs > 0);
}
