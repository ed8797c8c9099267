//! A request's path and query: the upstream, and what is asked of it.

use std::fmt;

use thiserror::Error;

use super::names::{ContentDigest, ImageTag, NotAContentDigest, NotARepositoryName, NotATag, RepositoryName};
use super::naming::RegistryNaming;
use super::query::{PassedQuery, QueryFault, SplitQuery};

/// The longest path, in bytes: a host, a repository name and a digest at their longest fit.
const MAX_PATH: usize = 1024;

/// A read request to a registry. `U` is what the caller knows of an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryRequest<U> {
    /// The upstream that `?ns=` or the first component of the path names. `None`: the default one.
    pub upstream: Option<U>,
    /// Which of these it was.
    pub naming: RegistryNaming,
    /// What is asked of it.
    pub path: RegistryPath,
}

/// What a read request asks of a registry. `Display` writes the path and the query that go upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegistryPath {
    /// `/v2/`: whether this is a registry, and whether the client is authorised.
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
        /// The manifest that others refer to.
        digest: ContentDigest,
        /// `artifactType`.
        query: PassedQuery,
    },
}

/// How a request names a manifest.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ManifestReference {
    /// By its digest: the content never changes.
    Digest(ContentDigest),
    /// By a tag: upstream says which manifest that is now.
    Tag(ImageTag),
}

/// Why a path is refused. Nothing of it goes upstream.
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
    /// The repository's name is not one.
    #[error(transparent)]
    Name(#[from] NotARepositoryName),
    /// The digest is not one.
    #[error(transparent)]
    Digest(#[from] NotAContentDigest),
    /// The tag is not one.
    #[error(transparent)]
    Tag(#[from] NotATag),
    /// A path of a push.
    #[error("this cache only reads; push to the registry itself")]
    Upload,
    /// The list of all repositories.
    #[error("this cache does not list repositories; ask the registry itself")]
    Catalog,
    /// A path that the specification does not have.
    #[error(
        "no such path; a registry's paths are /v2/, and /v2/NAME/ with blobs/DIGEST, manifests/TAG, tags/list or referrers/DIGEST"
    )]
    Unknown,
}

impl<U> RegistryRequest<U> {
    /// Reads a request's path and query. `listed` looks an upstream up by its host and port.
    ///
    /// The registry is named by `?ns=`, which containerd sends to mirrors, or else by the path's first component, which
    /// containerd's `override_path` puts there: `/v2/quay.io/NAME/…`. A first component that is no listed registry is
    /// part of the repository's name. Nothing is added to names: containerd, dockerd and podman write `library/` before
    /// the short names of Docker Hub themselves.
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

/// The host that serves the registry of this name. Docker Hub's names are not its host.
fn canonical_host(name: &str) -> &str {
    match name {
        "docker.io" | "index.docker.io" => "registry-1.docker.io",
        name => name,
    }
}

impl RegistryPath {
    /// Reads what follows `/v2/`.
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

    /// The repository; the ping has none.
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
    /// No tag has a colon, and each digest has one.
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
