//! What the cache keeps on disk.

use std::path::PathBuf;
use std::time::Duration;

use ::settings::values::value;
use ::settings::{Flag, Is, Setting, Takes};

use crate::config::sections;
use crate::config::values::{SECONDS_OR_NONE, seconds_or_none};
use crate::store::DiskShare;

settings! {
    STORAGE: Setting<PathBuf, Is> = Setting {
        section: sections::STORAGE,
        flag: Some(Flag::global('s', "storage")),
        variable: "STORAGE",
        takes: Takes::Value("FOLDER"),
        help: "Keep blobs and manifests in this folder.",
        details: "No other process may use it.",
        docker: "",
        default: Is("/storage"),
        example: "/var/lib/torrent-cache",
        expected: "a folder",
        parse: value,
    };

    STORAGE_QUOTA: Setting<DiskShare, Is> = Setting {
        section: sections::STORAGE,
        flag: Some(Flag::long_global("storage-quota")),
        variable: "STORAGE_QUOTA",
        takes: Takes::Value("SIZE"),
        help: "Use at most this much: `20G`, or `80%` of the file system. Blobs that other hosts have are \
               removed first, then those that were unused longest.",
        details: "",
        docker: "",
        default: Is("80%"),
        example: "20G",
        expected: SIZES,
        parse: value,
    };

    STORAGE_MIN_FREE: Setting<DiskShare, Is> = Setting {
        section: sections::STORAGE,
        flag: Some(Flag::long_global("storage-min-free")),
        variable: "STORAGE_MIN_FREE",
        takes: Takes::Value("SIZE"),
        help: "Leave this much of the file system free for other programs: `1G`, or `5%`.",
        details: "",
        docker: "",
        default: Is("5%"),
        example: "1G",
        expected: SIZES,
        parse: value,
    };

    TAG_STALE: Setting<Duration, Is> = Setting {
        section: sections::STORAGE,
        flag: Some(Flag::long_global("tag-stale")),
        variable: "TAG_STALE",
        takes: Takes::Number("SECONDS"),
        help: "While an upstream fails, serve the last known manifest of a tag for this time.",
        details: "AUTH_STALE says which clients may then read the manifest.",
        docker: "",
        default: Is("86400"),
        example: "3600",
        expected: SECONDS_OR_NONE,
        parse: seconds_or_none,
    };
}

const SIZES: &str = "a number of bytes such as 20G, or a share of the disk such as 80%";
