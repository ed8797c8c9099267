//! The arguments of `retracker explain`.

use std::fmt;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use ::settings::{Flag, InvalidValue, Origin, Sources};
use clap::{Arg, ArgMatches, Command, ValueHint};
use ring::digest;
use tracker_protocol::InfoHash;
use tracker_protocol::metainfo::{self, Info};

use super::error::ConfigError;
use super::file;
use crate::access::ClientPrefix;
use crate::frontend::client_at::ClientAt;
use crate::frontend::listen::Listen;

/// What `retracker explain` asks.
#[derive(Clone, Debug)]
pub struct ExplainOptions {
    /// Where the instance serves the operator's pages.
    pub listen: Vec<Listen>,
    /// The torrent.
    pub info_hash: InfoHash,
    /// The address of the client.
    pub at: ClientAt,
    /// The beginning of the client's peer id.
    pub client: Option<ClientPrefix>,
    /// The token with which the client announces.
    pub token: Option<JwtText>,
}

/// A token as the operator gave it. The debug output hides this secret.
#[derive(Clone)]
pub struct JwtText(pub Vec<u8>);

impl fmt::Debug for JwtText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JwtText")
    }
}

/// The longest token that announces may have.
const LONGEST_TOKEN: usize = 8192;

/// The name of the command.
pub(super) const EXPLAIN: &str = "explain";

const HASH: &str = "hash";
const AS: Flag = Flag::long("as");
const TORRENT: Flag = Flag::long("torrent");
const CLIENT: Flag = Flag::long("client");
const TOKEN_FILE: Flag = Flag::long("token-file");

/// Returns the command with its arguments. As with settings, values remain texts.
pub(super) fn command() -> Command {
    Command::new(EXPLAIN)
        .about(
            "Ask the running instance which peers of a torrent a client gets now. It explains each peer, each forwarder and the \
             access rules. The instance must serve the operator's pages (-p or --admin-listen)",
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
        .arg(
            Arg::new(CLIENT.long)
                .long(CLIENT.long)
                .value_name("PEER_ID")
                .allow_hyphen_values(true)
                .help("The beginning of the client's peer id, such as -TR4050-, for the access rules"),
        )
        .arg(
            Arg::new(TOKEN_FILE.long)
                .long(TOKEN_FILE.long)
                .value_name("FILE")
                .value_hint(ValueHint::FilePath)
                .help("A file with the JWT that the client sends, for the access rules"),
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
    let at = match sources.flag(AS) {
        None => ClientAt { ip: Ipv4Addr::LOCALHOST.into(), port: None },
        Some(text) => text.parse().map_err(|_| InvalidValue {
            origin: Origin::Flag(AS),
            found: text,
            expected: "an address such as 192.168.1.7, 192.168.1.7:6881 or [fd00::7]:6881",
        })?,
    };
    let client = sources.flag(CLIENT).map(|text| {
        text.parse().map_err(|_| InvalidValue {
            origin: Origin::Flag(CLIENT),
            found: text,
            expected: "the beginning of a peer id, such as -TR4050-",
        })
    });
    let token = sources.flag(TOKEN_FILE).map(|path| token(Path::new(&path)));
    Ok(ExplainOptions { listen, info_hash, at, client: client.transpose()?, token: token.transpose()? })
}

/// Reads the token in a file.
fn token(path: &Path) -> Result<JwtText, ConfigError> {
    let wrong = |problem: String| ConfigError::File { path: PathBuf::from(path), line: None, problem };
    let bytes = file::read(path).map_err(wrong)?;
    let token = bytes.trim_ascii();
    // The instance would only answer that a request with a longer token is too long.
    if token.is_empty() || token.len() > LONGEST_TOKEN || token.contains(&b'\n') {
        return Err(wrong("expected a JWT in one line, of 8192 bytes at most".to_owned()));
    }
    Ok(JwtText(token.to_vec()))
}

/// Computes the info-hash of a torrent file.
fn of_file(path: &Path) -> Result<InfoHash, ConfigError> {
    let wrong = |problem: String| ConfigError::File { path: PathBuf::from(path), line: None, problem };
    let bytes = file::read(path).map_err(wrong)?;
    let found = metainfo::info(&bytes).map_err(|error| wrong(format!("{error}, expected a torrent file")))?;
    let Info { bytes, is_v1 } = found.ok_or_else(|| wrong("it has no info, expected a torrent file".to_owned()))?;
    let algorithm = if is_v1 { &digest::SHA1_FOR_LEGACY_USE_ONLY } else { &digest::SHA256 };
    let hash = digest::digest(algorithm, bytes);
    hash.as_ref().first_chunk().copied().map(InfoHash).ok_or_else(|| wrong("its hash is too short".to_owned()))
}
