//! Reads the paths of a repository in archive mode: which files are cached, and under which key.
//!
//! A repository can be anywhere below a host, so only the end of a path matters. The cache keeps files that a hash
//! verifies: the parts of static deltas, and objects. All other files always come from the upstream: the summary and
//! its signature, config, refs, superblocks, delta indexes, detached metadata. They change or contain the hashes.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use percent_encoding::percent_decode_str;
use thiserror::Error;

use crate::digest::Digest;

/// How many characters a delta's name has before its slash, and after the slash: first for a delta from nothing, then
/// for a delta from a commit.
const NAME_START: usize = 2;
const NAME_FROM_NOTHING: usize = 41;
const NAME_FROM_COMMIT: usize = 41 + 1 + 43;

/// What the path of a request names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OstreePath {
    /// `…/deltas/XX/YYY/superblock`. The cache passes it through, and reads the digests of the parts from it.
    Superblock(DeltaFolder),
    /// `…/deltas/XX/YYY/N`: the part with index N. The superblock has its SHA-256.
    DeltaPart(DeltaFolder, u32),
    /// `…/objects/ab/….filez`: a file object, which must be inflated to be verified, see [`super::filez`].
    FileObject(ObjectChecksum),
    /// `…/objects/ab/….commit`, `.dirtree`, `.dirmeta`: an object whose name is the SHA-256 of the file.
    MetadataObject(Digest),
    /// Any other path. The cache passes the file through.
    Uncached,
}

/// The folder of a static delta on its server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DeltaFolder(String);

/// The name of an object. For a file object, this is the SHA-256 of its header and content, not of the `.filez` file.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectChecksum(pub [u8; 32]);

impl OstreePath {
    /// Reads the path of a URL. A path with a query, an encoded slash, or a part such as `..` is never cached: only its
    /// server knows which file it means.
    pub fn parse(path: &str) -> Self {
        Self::read(path).unwrap_or(Self::Uncached)
    }

    fn read(path: &str) -> Option<Self> {
        let segments: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
        if !segments.iter().all(|segment| decoded(segment).is_some_and(|decoded| is_plain(&decoded))) {
            return None;
        }
        match *segments.as_slice() {
            [.., "objects", start, file] => read_object(start, file),
            [.., "deltas", start, name, file] if is_delta_name(&decoded(start)?, &decoded(name)?) => {
                let (folder, _) = path.rsplit_once('/')?;
                let folder = DeltaFolder(folder.to_owned());
                if file == "superblock" {
                    Some(Self::Superblock(folder))
                } else {
                    Some(Self::DeltaPart(folder, part_index(file)?))
                }
            }
            _ => None,
        }
    }
}

/// Reads `ab/cd….KIND`: 64 hexadecimal digits with a slash after the second digit.
fn read_object(start: &str, file: &str) -> Option<OstreePath> {
    let (rest, kind) = file.split_once('.')?;
    if start.len() != NAME_START {
        return None;
    }
    let checksum: ObjectChecksum = format!("{start}{rest}").parse().ok()?;
    match kind {
        "filez" => Some(OstreePath::FileObject(checksum)),
        "commit" | "dirtree" | "dirmeta" => Some(OstreePath::MetadataObject(Digest(checksum.0))),
        _ => None,
    }
}

/// Whether this is the name of a delta: one or two SHA-256 in base64, 43 digits each, with `_` in place of the slash.
fn is_delta_name(start: &str, name: &str) -> bool {
    let is_base64 = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'_'));
    let name_is_right = match name.split_once('-') {
        Some((from, to)) => {
            name.len() == NAME_FROM_COMMIT && from.len() == NAME_FROM_NOTHING && is_base64(from) && is_base64(to)
        }
        None => name.len() == NAME_FROM_NOTHING && is_base64(name),
    };
    start.len() == NAME_START && is_base64(start) && name_is_right
}

/// Reads the index of a part as OSTree writes it, without a sign and without leading zeros.
fn part_index(text: &str) -> Option<u32> {
    let index: u32 = text.parse().ok()?;
    (index.to_string() == text).then_some(index)
}

/// Decodes percent-encoding, because some clients encode the plus signs of base64.
fn decoded(segment: &str) -> Option<Cow<'_, str>> {
    percent_decode_str(segment).decode_utf8().ok()
}

/// Whether every server understands this part of a path as the same name of a file or folder.
fn is_plain(segment: &str) -> bool {
    !matches!(segment, "" | "." | "..")
        && !segment.contains(['/', '\\', '?', '#', '%'])
        && !segment.contains(char::is_control)
}

impl DeltaFolder {
    /// Returns the path of the superblock that has the digests of the parts in this folder.
    pub fn superblock_path(&self) -> String {
        format!("{}/superblock", self.0)
    }

    /// Returns the key of a part in the store. It contains the origin of the server, such as `http://example.com:80`,
    /// because only that server's superblock has the part's digest.
    pub fn part_key(&self, origin: &str, index: u32) -> String {
        format!("{origin}{}/{index}", self.0)
    }
}

impl ObjectChecksum {
    /// Returns the key of the `.filez` file in the store, among the keys of its repository.
    pub fn key(&self) -> String {
        format!("filez/{self}")
    }
}

impl fmt::Display for ObjectChecksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&Digest(self.0).hex())
    }
}

impl fmt::Debug for ObjectChecksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not 64 lower-case hexadecimal digits")]
pub struct NotAnObjectChecksum;

impl FromStr for ObjectChecksum {
    type Err = NotAnObjectChecksum;

    fn from_str(hex: &str) -> Result<Self, NotAnObjectChecksum> {
        let digest: Digest = format!("sha256:{hex}").parse().map_err(|_| NotAnObjectChecksum)?;
        Ok(Self(digest.0))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FROM: &str = "Bn/yoZKX8QGqmVZKAwTFrqpwYwBzLTQr7NddCI6XCAc0-Wd5wdpL2qFpjE0969vzqmmCphK92_hidSnnv8_9xoxA";
    const FULL: &str = "Wd/5wdpL2qFpjE0969vzqmmCphK92+hidSnnv8_9xoxA";
    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn object(kind: &str) -> OstreePath {
        OstreePath::parse(&format!("/repo/objects/{}/{}.{kind}", &HEX[..2], &HEX[2..]))
    }

    #[test]
    fn parts_and_superblocks_of_deltas() {
        for name in [FROM, FULL] {
            for prefix in ["", "/repo", "/a/deltas/b", "/~user/my%20repo", "/objects"] {
                let folder = DeltaFolder(format!("{prefix}/deltas/{name}"));
                let path = |file: &str| OstreePath::parse(&format!("{prefix}/deltas/{name}/{file}"));
                assert_eq!(path("superblock"), OstreePath::Superblock(folder.clone()));
                assert_eq!(path("0"), OstreePath::DeltaPart(folder.clone(), 0));
                assert_eq!(path("4294967295"), OstreePath::DeltaPart(folder.clone(), u32::MAX));
                assert_eq!(OstreePath::parse(&folder.superblock_path()), OstreePath::Superblock(folder.clone()));
                assert_eq!(folder.part_key("http://h:80", 7), format!("http://h:80{prefix}/deltas/{name}/7"));
                for other in
                    ["", "00", "+1", "-1", "4294967296", "meta", "commitmeta", "0.sig", "superblock.sig", "%30"]
                {
                    assert_eq!(path(other), OstreePath::Uncached, "{other}");
                }
            }
        }
        let encoded = FULL.replace('+', "%2B");
        assert!(matches!(OstreePath::parse(&format!("/deltas/{encoded}/0")), OstreePath::DeltaPart(..)));
    }

    #[test]
    fn what_is_no_delta_is_not_cached() {
        let tail = &FULL[3..];
        for name in [
            format!("W/{tail}"),
            format!("Wde/{tail}"),
            format!("Wd/{tail}0"),
            format!("Wd/{}", &tail[1..]),
            format!("Wd/{tail}-"),
            format!("Wd/{tail}-{tail}"),
            format!("Wd/{tail}-{}--", &FROM[45..86]),
            format!("Wd{tail}"),
            FULL.replace('p', "="),
            FULL.replace('p', "/"),
            FULL.replace('p', "ä"),
        ] {
            assert_eq!(OstreePath::parse(&format!("/deltas/{name}/0")), OstreePath::Uncached, "{name}");
        }
    }

    #[test]
    fn objects() {
        let checksum: ObjectChecksum = HEX.parse().unwrap();
        assert_eq!(object("filez"), OstreePath::FileObject(checksum));
        assert_eq!(checksum.key(), format!("filez/{HEX}"));
        for kind in ["commit", "dirtree", "dirmeta"] {
            assert_eq!(object(kind), OstreePath::MetadataObject(Digest::of(b"")));
        }
        for kind in ["commitmeta", "commitpartial", "tombstone-commit", "file", "filez.sig", "", "FILEZ", "filez%00"] {
            assert_eq!(object(kind), OstreePath::Uncached, "{kind}");
        }
        for path in [
            format!("/objects/{HEX}.filez"),
            format!("/objects/e3b/{}.filez", &HEX[3..]),
            format!("/objects/E3/{}.filez", &HEX[2..]),
            format!("/xobjects/e3/{}.filez", &HEX[2..]),
            format!("objects/e3/{}.filez", &HEX[2..]),
            format!("/objects/e3/{}", &HEX[2..]),
        ] {
            assert_eq!(OstreePath::parse(&path), OstreePath::Uncached, "{path}");
        }
    }

    #[test]
    fn what_changes_is_not_cached() {
        for path in [
            "/summary",
            "/summary.sig",
            "/config",
            "/refs/heads/main",
            "/repo/delta-indexes/Wd/x.index",
            "/extensions/rpmostree/x",
            "/",
            "",
            "*",
            "/deltas/",
            "/objects/",
        ] {
            assert_eq!(OstreePath::parse(path), OstreePath::Uncached, "{path}");
        }
    }

    #[test]
    fn a_path_that_only_its_server_understands_is_not_cached() {
        for prefix in [
            "//",
            "/../",
            "/./",
            "/a/%2e%2e/",
            "/a%2Fb/",
            "/a%5Cb/",
            "/a\\b/",
            "/%00/",
            "/%ff/",
            "/%2525/",
            "/a?b/",
            "/a#b/",
            "/a\n/",
        ] {
            assert_eq!(OstreePath::parse(&format!("{prefix}deltas/{FULL}/0")), OstreePath::Uncached, "{prefix}");
        }
        assert_eq!(OstreePath::parse(&format!("/deltas/{FULL}/0?x=1")), OstreePath::Uncached);
    }

    proptest! {
        #[test]
        fn any_path_is_read(path: String) {
            let _ = OstreePath::parse(&path);
            let _ = OstreePath::parse(&format!("/deltas/{path}/0"));
            let _ = OstreePath::parse(&format!("/objects/{path}.filez"));
        }
    }
}
