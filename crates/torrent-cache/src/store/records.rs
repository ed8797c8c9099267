//! Small files: manifests, the manifests that tags mean, the blobs of OSTree URLs, deliveries of upstreams, and torrent
//! files.

use std::io::{self, Read};
use std::time::{Duration, SystemTime};

use super::blob_store::BlobStore;
use super::incoming::IncomingFile;
use super::layout::{FileKind, FileName};
use crate::digest::{Digest, DigestHasher};

/// The most bytes of a record: four times the longest manifest that registries accept.
const LONGEST: u64 = 16 << 20;

/// A manifest as the upstream sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CachedManifest {
    /// Its `Content-Type` at this upstream.
    pub media_type: String,
    /// Its bytes. Their digest was checked.
    pub bytes: Vec<u8>,
}

/// A blob or manifest that an upstream itself has sent for one of its repositories, with the right digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The upstream.
    pub upstream: String,
    /// The repository, or the path of an OSTree repository on its server.
    pub repository: String,
    /// The blob or the manifest.
    pub digest: Digest,
}

/// The torrent file of a blob that is shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredTorrent {
    /// The blob.
    pub digest: Digest,
    /// The file.
    pub file: Vec<u8>,
}

/// Everything that decides which manifest a tag means.
#[derive(Clone, Copy, Debug)]
pub struct TagKey<'a> {
    /// The registry.
    pub upstream: &'a str,
    /// The repository.
    pub repository: &'a str,
    /// The tag.
    pub tag: &'a str,
    /// The client's `Accept` lines, by which the registry chooses one of several manifests.
    pub accept: &'a str,
}

/// For how many `Accept` values the store remembers the manifest of a tag. The values that were stored last are kept.
/// Without a limit, clients could fill the disk.
const ACCEPTS: usize = 16;

/// The manifest that a tag meant when the upstream was asked last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagEntry {
    /// The manifest.
    pub digest: Digest,
    /// The manifest's `Content-Type`.
    pub media_type: String,
    /// When the upstream was asked, in whole seconds.
    pub checked_at: SystemTime,
}

impl TagKey<'_> {
    /// Returns the name of the tag's file, which has a line for each `Accept`.
    fn name(&self) -> FileName {
        FileName { kind: FileKind::Tag, digest: digest_of(&[self.upstream, self.repository, self.tag]) }
    }

    fn accepted(&self) -> Digest {
        Digest::of(self.accept.as_bytes())
    }
}

/// The manifest of a tag for one `Accept`, as a line: the digest of `Accept`, the digest of the manifest, the time, the
/// media type.
struct TagLine {
    accepted: Digest,
    entry: TagEntry,
}

impl TagLine {
    fn write(&self) -> String {
        let TagEntry { digest, media_type, checked_at } = &self.entry;
        let seconds = checked_at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        format!("{} {digest} {seconds} {media_type}\n", self.accepted)
    }

    fn read(line: &str) -> Option<Self> {
        let mut words = line.splitn(4, ' ');
        let (accepted, digest) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let checked_at = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(words.next()?.parse().ok()?))?;
        Some(Self { accepted, entry: TagEntry { digest, media_type: words.next()?.to_owned(), checked_at } })
    }
}

impl Delivery {
    /// Returns the name of a delivery's file. A blob and a manifest of one digest have two files, because only
    /// manifests have a media type.
    fn name(&self, kind: &str) -> FileName {
        let digest = digest_of(&[&self.upstream, &self.repository, kind, &self.digest.hex()]);
        FileName { kind: FileKind::Delivery, digest }
    }
}

/// The kinds of deliveries.
const BLOB: &str = "blob";
const MANIFEST: &str = "manifest";

impl BlobStore {
    /// Stores a manifest that an upstream has delivered. Fails with `InvalidInput` if its digest or media type is
    /// wrong.
    pub fn put_manifest(&self, delivery: &Delivery, manifest: &CachedManifest) -> io::Result<()> {
        if Digest::of(&manifest.bytes) != delivery.digest {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a manifest with another digest"));
        }
        let media_type = line(&manifest.media_type)?;
        self.put(FileName { kind: FileKind::Manifest, digest: delivery.digest }, &manifest.bytes)?;
        self.put(delivery.name(MANIFEST), format!("{media_type}\n").as_bytes())
    }

    /// Returns a manifest, if this upstream has delivered it. The call counts as a use. Removes a damaged manifest.
    pub fn manifest(&self, delivery: &Delivery) -> io::Result<Option<CachedManifest>> {
        let media_type = self.read(delivery.name(MANIFEST), |record| {
            Some(std::str::from_utf8(record).ok()?.strip_suffix('\n')?.to_owned())
        })?;
        let Some(media_type) = media_type else { return Ok(None) };
        self.read(FileName { kind: FileKind::Manifest, digest: delivery.digest }, |bytes| {
            (Digest::of(bytes) == delivery.digest).then(|| CachedManifest { media_type, bytes: bytes.to_owned() })
        })
    }

    /// Notes that an upstream has delivered a blob.
    pub fn put_delivered(&self, delivery: &Delivery) -> io::Result<()> {
        self.put(delivery.name(BLOB), b"\n")
    }

    /// Returns whether this upstream has delivered this blob, even if the blob was evicted since.
    pub fn is_delivered(&self, delivery: &Delivery) -> io::Result<bool> {
        Ok(self.read(delivery.name(BLOB), |record| (record == b"\n").then_some(()))?.is_some())
    }

    /// Stores which manifest a tag means now. Of two calls for one tag at once, one can be lost. That costs one more
    /// request to the upstream.
    pub fn put_tag(&self, key: &TagKey<'_>, tag: &TagEntry) -> io::Result<()> {
        line(&tag.media_type)?;
        let newest = TagLine { accepted: key.accepted(), entry: tag.clone() };
        let others = self.tag_lines(key)?.into_iter().filter(|line| line.accepted != newest.accepted);
        let record: String = others.take(ACCEPTS - 1).fold(newest.write(), |record, line| record + &line.write());
        self.put(key.name(), record.as_bytes())
    }

    /// Returns the manifest that a tag meant last.
    pub fn tag(&self, key: &TagKey<'_>) -> io::Result<Option<TagEntry>> {
        let accepted = key.accepted();
        Ok(self.tag_lines(key)?.into_iter().find(|line| line.accepted == accepted).map(|line| line.entry))
    }

    /// Returns the lines of a tag, the newest first.
    fn tag_lines(&self, key: &TagKey<'_>) -> io::Result<Vec<TagLine>> {
        let read = |record: &[u8]| std::str::from_utf8(record).ok()?.lines().map(TagLine::read).collect();
        Ok(self.read(key.name(), read)?.unwrap_or_default())
    }

    /// Stores which blob an OSTree URL means.
    pub fn put_delta(&self, url: &str, digest: &Digest) -> io::Result<()> {
        self.put(delta_name(url), format!("{digest}\n").as_bytes())
    }

    /// Returns which blob an OSTree URL means.
    pub fn delta(&self, url: &str) -> io::Result<Option<Digest>> {
        self.read(delta_name(url), |record| std::str::from_utf8(record).ok()?.trim_end().parse().ok())
    }

    /// Stores the torrent file of a blob by its share key, for as long as the blob stays. Returns `false`, and keeps
    /// nothing, if the blob is gone.
    pub fn put_torrent(&self, key: &str, torrent: &StoredTorrent) -> io::Result<bool> {
        let (name, head) = (torrent_name(key), format!("{}\n", torrent.digest));
        self.put(name, &[head.as_bytes(), &torrent.file].concat())?;
        let is_kept = self.space.keep_with_blob(name, torrent.digest);
        if !is_kept {
            self.space.discard(name)?;
        }
        Ok(is_kept)
    }

    /// Returns the torrent file that was stored under this key.
    pub fn torrent(&self, key: &str) -> io::Result<Option<StoredTorrent>> {
        self.read(torrent_name(key), read_torrent)
    }

    /// Visits all torrent files. Removes a file if `keep` returns `false` for it, or if its blob is gone.
    pub fn torrents(&self, mut keep: impl FnMut(StoredTorrent) -> bool) -> io::Result<()> {
        let mut names = Vec::new();
        self.space.folder.walk(|file| {
            if file.name.kind == FileKind::Torrent {
                names.push(file.name);
            }
        })?;
        for name in names {
            if let Some(torrent) = self.read(name, read_torrent)? {
                let blob = torrent.digest;
                if !keep(torrent) || !self.space.keep_with_blob(name, blob) {
                    self.space.discard(name)?;
                }
            }
        }
        Ok(())
    }

    fn put(&self, name: FileName, record: &[u8]) -> io::Result<()> {
        let length = record.len() as u64;
        if length > LONGEST {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a record above 16 MiB"));
        }
        let mut file = IncomingFile::create(&self.space, length)?;
        file.append(record)?;
        file.place(name)
    }

    /// Reads a whole record. Removes a record that `parse` does not understand, so that it is fetched again.
    fn read<T>(&self, name: FileName, parse: impl FnOnce(&[u8]) -> Option<T>) -> io::Result<Option<T>> {
        let Some((file, _)) = self.space.open_file(name)? else { return Ok(None) };
        let mut record = Vec::new();
        file.take(LONGEST).read_to_end(&mut record)?;
        let parsed = parse(&record);
        if parsed.is_none() {
            log::warn!("{}: the file was damaged, so it is removed", self.space.folder.path(name).display());
            self.space.discard(name)?;
        }
        Ok(parsed)
    }
}

/// Returns the digest of a list of texts.
fn digest_of(parts: &[&str]) -> Digest {
    let mut hasher = DigestHasher::default();
    for part in parts {
        // The length before each part keeps two lists with the same joined text apart.
        hasher.update(format!("{}:", part.len()).as_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.finish()
}

fn torrent_name(key: &str) -> FileName {
    FileName { kind: FileKind::Torrent, digest: Digest::of(key.as_bytes()) }
}

fn read_torrent(record: &[u8]) -> Option<StoredTorrent> {
    let at = record.iter().position(|byte| *byte == b'\n')?;
    let (digest, file) = record.split_at_checked(at)?;
    let digest = std::str::from_utf8(digest).ok()?.parse().ok()?;
    Some(StoredTorrent { digest, file: file.get(1..)?.to_owned() })
}

fn delta_name(url: &str) -> FileName {
    FileName { kind: FileKind::Delta, digest: Digest::of(url.as_bytes()) }
}

/// Returns the text if it fits on one line.
fn line(text: &str) -> io::Result<&str> {
    let fits = !text.chars().any(char::is_control);
    fits.then_some(text).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a media type of several lines"))
}
