//! Reads the path and the query of a request: which upstream the request names, and what it asks for.

use std::fmt;

use thiserror::Error;

use super::names::{ContentDigest, ImageTag, NotAContentDigest, NotARepositoryName, NotATag, RepositoryName};
use super::naming::RegistryNaming;
use super::query::{PassedQuery, QueryFault, SplitQuery};

/// The longest path, in bytes. The longest host, repository name and digest fit into it.
const MAX_PATH: usize = 1024;

/// A read request to a registry. `U` is the caller's type for an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryRequest<U> {
    /// The upstream that `?ns=` or the first component of the path names. `None` means the default upstream.
    pub upstream: Option<U>,
    /// How the request names the upstream.
    pub naming: RegistryNaming,
    /// What the request asks for.
    pub path: RegistryPath,
}

/// What a read request asks of a registry. `Display` writes the path and the query that go upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegistryPath {
    /// `/v2/`: asks whether this is a registry, and whether the client is authorised.
    Ping,
    /// `/v2/NAME/blobs/DIGEST`.
    Blob {
        /// The repository.
        repository: RepositoryName,
        /// The blob. A digest other than SHA-256 is passed through uncached.
        digest: ContentDigest,
    },
    /// `/v2/NAME/manifests/TAG` or `/v2/NAME/manifests/DIGEST`.
    Manifest {
        /// The repository.
        repository: RepositoryName,
        /// Which manifest.
        reference: ManifestReference,
    },
    /// `/v2/NAME/tags/list`.
    TagList {
        /// The repository.
        repository: RepositoryName,
        /// `n`, `last`.
        query: PassedQuery,
    },
    /// `/v2/NAME/referrers/DIGEST`.
    Referrers {
        /// The repository.
        repository: RepositoryName,
        /// The manifest whose referrers the client wants.
        digest: ContentDigest,
        /// `artifactType`.
        query: PassedQuery,
    },
}

/// How a request names a manifest.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ManifestReference {
    /// By a digest, whose content never changes.
    Digest(ContentDigest),
    /// By a tag. The upstream decides which manifest the tag has at the moment.
    Tag(ImageTag),
}

/// Why a path is refused. The upstream gets no request.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PathRefusal {
    /// The path is too long.
    #[error("the path is longer than {MAX_PATH} bytes")]
    TooLong,
    /// The query is refused.
    #[error(transparent)]
    Query(#[from] QueryFault),
    /// `?ns=` names a registry that is not listed.
    #[error("this cache does not fetch from the registry {0:?}; its operator can add the registry to UPSTREAMS")]
    NotListed(String),
    /// The repository's name is not valid.
    #[error(transparent)]
    Name(#[from] NotARepositoryName),
    /// The digest is not valid.
    #[error(transparent)]
    Digest(#[from] NotAContentDigest),
    /// The tag is not valid.
    #[error(transparent)]
    Tag(#[from] NotATag),
    /// The path belongs to a push.
    #[error("this cache only reads; push to the registry itself")]
    Upload,
    /// The path asks for the list of all repositories.
    #[error("this cache does not list repositories; ask the registry itself")]
    Catalog,
    /// The specification does not have this path.
    #[error(
        "no such path; a registry's paths are /v2/, and /v2/NAME/ with blobs/DIGEST, manifests/TAG, tags/list or referrers/DIGEST"
    )]
    Unknown,
}

impl<U> RegistryRequest<U> {
    /// Reads a request's path and query. `listed` looks an upstream up by its host and port.
    ///
    /// Containerd names the registry by `?ns=`. Without `?ns=`, the first component of the path names it, as in
    /// `/v2/quay.io/NAME/…` (containerd's `override_path`). If that registry is not listed, the component is part of
    /// the repository's name. Short names of Docker Hub get no `library/`, because containerd, dockerd and podman add
    /// it.
    pub fn parse(path_and_query: &str, listed: impl Fn(&str) -> Option<U>) -> Result<Self, PathRefusal> {
        let (path, query) = path_and_query.split_once('?').unwrap_or((path_and_query, ""));
        if path.len() > MAX_PATH {
            return Err(PathRefusal::TooLong);
        }
        let SplitQuery { namespace, passed } = SplitQuery::parse(query)?;
        let rest = if path == "/v2" { "" } else { path.strip_prefix("/v2/").ok_or(PathRefusal::Unknown)? };
        let (first, after) = rest.split_once('/').unwrap_or((rest, ""));
        let host_of_path = canonical_host(first);
        let (upstream, naming, rest) = match namespace {
            Some(name) => {
                let host = canonical_host(&name);
                let upstream = listed(host).ok_or_else(|| PathRefusal::NotListed(host.to_owned()))?;
                let rest = if host_of_path == host { after } else { rest };
                (Some(upstream), RegistryNaming::Query(name), rest)
            }
            None => match listed(host_of_path) {
                Some(upstream) => (Some(upstream), RegistryNaming::Path(first.to_owned()), after),
                None => (None, RegistryNaming::Absent, rest),
            },
        };
        Ok(Self { upstream, naming, path: RegistryPath::parse(rest, passed)? })
    }
}

/// Returns the host of the registry with this name. Docker Hub has names that are not its host.
fn canonical_host(name: &str) -> &str {
    match name {
        "docker.io" | "index.docker.io" => "registry-1.docker.io",
        name => name,
    }
}

impl RegistryPath {
    /// Reads the path after `/v2/`.
    fn parse(rest: &str, query: PassedQuery) -> Result<Self, PathRefusal> {
        match rest {
            "" => return Ok(Self::Ping),
            "_catalog" => return Err(PathRefusal::Catalog),
            _ => (),
        }
        let (before, last) = rest.rsplit_once('/').ok_or(PathRefusal::Unknown)?;
        let (name, kind) = before.rsplit_once('/').ok_or(PathRefusal::Unknown)?;
        match (kind, last) {
            ("blobs", "uploads") => Err(PathRefusal::Upload),
            ("uploads", _) if name.ends_with("/blobs") => Err(PathRefusal::Upload),
            ("blobs", digest) => Ok(Self::Blob { repository: name.parse()?, digest: digest.parse()? }),
            ("manifests", reference) => {
                Ok(Self::Manifest { repository: name.parse()?, reference: ManifestReference::parse(reference)? })
            }
            ("tags", "list") => Ok(Self::TagList { repository: name.parse()?, query }),
            ("referrers", digest) => Ok(Self::Referrers { repository: name.parse()?, digest: digest.parse()?, query }),
            _ => Err(PathRefusal::Unknown),
        }
    }

    /// Returns the repository; `None` for the ping.
    pub fn repository(&self) -> Option<&RepositoryName> {
        match self {
            Self::Ping => None,
            Self::Blob { repository, .. }
            | Self::Manifest { repository, .. }
            | Self::TagList { repository, .. }
            | Self::Referrers { repository, .. } => Some(repository),
        }
    }
}

impl ManifestReference {
    /// Reads a tag or a digest. Every digest has a colon, and no tag has one.
    fn parse(text: &str) -> Result<Self, PathRefusal> {
        if text.contains(':') { Ok(Self::Digest(text.parse()?)) } else { Ok(Self::Tag(text.parse()?)) }
    }
}

impl fmt::Display for ManifestReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Digest(digest) => digest.fmt(f),
            Self::Tag(tag) => tag.fmt(f),
        }
    }
}

impl fmt::Display for RegistryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let query = match self {
            Self::Ping => return f.write_str("/v2/"),
            Self::Blob { repository, digest } => return write!(f, "/v2/{repository}/blobs/{digest}"),
            Self::Manifest { repository, reference } => return write!(f, "/v2/{repository}/manifests/{reference}"),
            Self::TagList { repository, query } => {
                write!(f, "/v2/{repository}/tags/list")?;
                query
            }
            Self::Referrers { repository, digest, query } => {
                write!(f, "/v2/{repository}/referrers/{digest}")?;
                query
            }
        };
        if query.as_str().is_empty() { Ok(()) } else { write!(f, "?{}", query.as_str()) }
    }
}

#[cfg(test)]
mod tests;
