//! The error that a client reads.

use std::fmt;

use thiserror::Error;

/// Why an announce or a scrape is refused. `Display` writes the `failure reason`. It names the parameter and the fault,
/// for the author of a client. It repeats no values from the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// A required parameter is missing.
    #[error("{0} is missing")]
    Missing(Parameter),
    /// An identifier is given several times, with different values.
    #[error("{0} is given more than once")]
    Repeated(Parameter),
    /// `%` is not followed by two hexadecimal digits.
    #[error("{0} has a malformed percent escape")]
    MalformedEscape(Parameter),
    /// An identifier has the wrong length.
    #[error("{parameter} is {found} bytes long, expected 20")]
    WrongLength {
        /// The identifier.
        parameter: Parameter,
        /// The length of the identifier in bytes, after decoding.
        found: usize,
    },
    /// The value is not a decimal number within the parameter's range.
    #[error("{parameter} is not a number from {min} to {max}")]
    NotANumber {
        /// The parameter.
        parameter: Parameter,
        /// The least value.
        min: u64,
        /// The largest value.
        max: u64,
    },
    /// A scrape asks about more torrents than one reply may hold.
    #[error("info_hash is given more than {max} times in one scrape")]
    TooManyInfoHashes {
        /// The limit.
        max: usize,
    },
    /// A scrape of all torrents, which this tracker does not serve.
    #[error("info_hash is missing: this tracker does not serve a scrape of all its torrents")]
    FullScrape,
    /// The tracker's access rules refuse the request. The text is the whole sentence.
    #[error("{0}")]
    Denied(&'static str),
    /// The access rules refuse the request for now.
    #[error("{reason}")]
    NotNow {
        /// The whole sentence.
        reason: &'static str,
        /// After how many minutes the same request may be accepted.
        minutes: u32,
    },
    /// There is no tracker at this path.
    #[error("no tracker here: the path of the announce URL must be /announce")]
    UnknownPath,
    /// The method is neither GET nor HEAD.
    #[error("only GET and HEAD are served here")]
    Method,
    /// The request line and the header lines are longer than those of any client.
    #[error("the request is too long: {bytes} bytes and {lines} header lines at most")]
    TooLong {
        /// The most bytes of the request line and the header lines together.
        bytes: usize,
        /// The most header lines.
        lines: usize,
    },
}

/// The parameters of announces and scrapes that this tracker reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each has the name of its parameter")]
pub enum Parameter {
    InfoHash,
    PeerId,
    Port,
    Uploaded,
    Downloaded,
    Left,
    Event,
    NumWant,
    Compact,
    NoPeerId,
    Key,
    Ip,
    Ipv4,
    Ipv6,
}

impl Parameter {
    /// Returns the name of the parameter in a query.
    pub fn name(self) -> &'static str {
        match self {
            Self::InfoHash => "info_hash",
            Self::PeerId => "peer_id",
            Self::Port => "port",
            Self::Uploaded => "uploaded",
            Self::Downloaded => "downloaded",
            Self::Left => "left",
            Self::Event => "event",
            Self::NumWant => "numwant",
            Self::Compact => "compact",
            Self::NoPeerId => "no_peer_id",
            Self::Key => "key",
            Self::Ip => "ip",
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
        }
    }

    /// Returns the parameter with this name; `None` if this tracker does not read such a parameter.
    pub fn from_name(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"info_hash" => Self::InfoHash,
            b"peer_id" => Self::PeerId,
            b"port" => Self::Port,
            b"uploaded" => Self::Uploaded,
            b"downloaded" => Self::Downloaded,
            b"left" => Self::Left,
            b"event" => Self::Event,
            b"numwant" => Self::NumWant,
            b"compact" => Self::Compact,
            b"no_peer_id" => Self::NoPeerId,
            b"key" => Self::Key,
            b"ip" => Self::Ip,
            b"ipv4" => Self::Ipv4,
            b"ipv6" => Self::Ipv6,
            _ => return None,
        })
    }
}

impl fmt::Display for Parameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
