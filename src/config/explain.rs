//! The arguments of `retracker explain`.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use ::settings::{Flag, InvalidValue, Origin, Sources};
use clap::{Arg, ArgMatches, Command, ValueHint};
use ring::digest;
use tracker_protocol::InfoHash;
use tracker_protocol::metainfo::{self, Info};

use super::error::ConfigError;
use super::file;
use crate::frontend::client_at::ClientAt;
use crate::frontend::listen::Listen;

/// What `retracker explain` asks.
#[derive(Clone, Debug)]
pub struct ExplainOptions {
    /// Where the instance serves the operator's pages.
    pub listen: Vec<Listen>,
    /// The torrent.
    pub info_hash: InfoHash,
    /// The client.
    pub client: ClientAt,
}

/// The name of the command.
pub(super) const EXPLAIN: &str = "explain";

const HASH: &str = "hash";
const AS: Flag = Flag::long("as");
const TORRENT: Flag = Flag::long("torrent");

/// The command with its arguments. As with settings, values remain texts.
pub(super) fn command() -> Command {
    Command::new(EXPLAIN)
        .about(
            "Ask the running instance what a client gets of a torrent now, and why: each peer, each forwarder, the access \
             rules. The instance must serve the operator's pages (-p or --admin-listen)",
        )
        .arg(
            Arg::new(HASH)
                .value_name("HASH")
                .required_unless_present(TORRENT.long)
                .conflicts_with(TORRENT.long)
                .help("The info-hash of the torrent, in hexadecimal"),
        )
        .arg(
            Arg::new(AS.long)
                .long(AS.long)
                .value_name("ADDRESS")
                .help("The address of the client, with or without its port\n[default: 127.0.0.1]"),
        )
        .arg(
            Arg::new(TORRENT.long)
                .long(TORRENT.long)
                .value_name("FILE")
                .value_hint(ValueHint::FilePath)
                .help("A torrent file, instead of the info-hash"),
        )
}

/// Reads the arguments of the command. `listen` is where the instance serves the operator's pages.
pub(super) fn options(
    matches: &ArgMatches,
    sources: &Sources<'_>,
    listen: Vec<Listen>,
) -> Result<ExplainOptions, ConfigError> {
    let sources = Sources { flags: matches, env: sources.env };
    let info_hash = match (matches.get_one::<String>(HASH), sources.flag(TORRENT)) {
        (Some(hash), _) => hash.parse().map_err(|_| {
            ConfigError::Usage(format!("HASH is {hash:?}, expected the 40 hexadecimal digits of an info-hash"))
        })?,
        (None, Some(path)) => of_file(Path::new(&path))?,
        (None, None) => return Err(ConfigError::Usage("HASH or --torrent is missing".to_owned())),
    };
    let client = match sources.flag(AS) {
        None => ClientAt { ip: Ipv4Addr::LOCALHOST.into(), port: None },
        Some(text) => text.parse().map_err(|_| InvalidValue {
            origin: Origin::Flag(AS),
            found: text,
            expected: "an address such as 192.168.1.7, 192.168.1.7:6881 or [fd00::7]:6881",
        })?,
    };
    Ok(ExplainOptions { listen, info_hash, client })
}

/// The info-hash of a torrent file.
fn of_file(path: &Path) -> Result<InfoHash, ConfigError> {
    let wrong = |problem: String| ConfigError::File { path: PathBuf::from(path), line: None, problem };
    let bytes = file::read(path).map_err(wrong)?;
    let found = metainfo::info(&bytes).map_err(|error| wrong(format!("{error}, expected a torrent file")))?;
    let Info { bytes, is_v1 } = found.ok_or_else(|| wrong("it has no info, expected a torrent file".to_owned()))?;
    let algorithm = if is_v1 { &digest::SHA1_FOR_LEGACY_USE_ONLY } else { &digest::SHA256 };
    let hash = digest::digest(algorithm, bytes);
    hash.as_ref().first_chunk().copied().map(InfoHash).ok_or_else(|| wrong("its hash is too short".to_owned()))
}
