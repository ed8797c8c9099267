//! Why an exchange with the engine failed.

use std::io;

use redis::{ErrorKind, RedisError, ServerError, ServerErrorKind};
use thiserror::Error;

/// Why an exchange with the engine failed. The text continues a sentence whose subject is the engine.
#[derive(Debug, Error)]
pub(super) enum LinkError {
    #[error("cannot be reached ({0})")]
    Connect(io::Error),
    #[error("does not get through the TLS handshake ({0})")]
    Tls(String),
    #[error("does not answer within 2 s")]
    Late,
    #[error("closes the connection ({0})")]
    Broken(String),
    #[error("refuses the user or the password ({0})")]
    Login(String),
    #[error("does not permit a command ({0})")]
    Rights(String),
    #[error("is a replica and takes no writes")]
    ReadOnly,
    #[error("has no memory left ({0})")]
    Full(String),
    #[error("answers with an error ({0})")]
    Refused(String),
    #[error("answers with a reply that no Redis or Valkey sends ({0})")]
    Reply(&'static str),
    #[error("is not known to any Sentinel ({0})")]
    Sentinel(String),
    #[error("cannot be looked up, because the Sentinels refuse the password or want one ({0})")]
    SentinelLogin(String),
}

impl LinkError {
    /// Returns the value of the metric's label `reason`.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Connect(_) => "connect",
            Self::Tls(_) => "tls",
            Self::Late => "timeout",
            Self::Broken(_) => "broken",
            Self::Login(_) | Self::SentinelLogin(_) => "login",
            Self::Rights(_) => "rights",
            Self::ReadOnly => "read_only",
            Self::Full(_) => "full",
            Self::Refused(_) => "refused",
            Self::Reply(_) => "reply",
            Self::Sentinel(_) => "sentinel",
        }
    }

    /// Returns what the operator can do about the error.
    pub(super) fn remedy(&self) -> &'static str {
        match self {
            Self::Connect(_) => "Start the server, or correct the address in SHARE_URL.",
            Self::Tls(_) => {
                "Let SSL_CERT_FILE name the authority that signed the server's certificate, and let SHARE_URL use a name \
                 for which the certificate is valid."
            }
            Self::Late => "Check whether the server hangs, is overloaded, or is behind a firewall that drops packets.",
            Self::Broken(_) => "Look into the server's log. A port for TLS needs rediss:// in SHARE_URL.",
            Self::Login(_) => {
                "Correct the user in SHARE_URL, or the password there or in the file of SHARE_PASSWORD_FILE."
            }
            Self::Rights(_) => {
                "Permit the user +xadd +xread +get +set +hset +hgetall +hdel +time +info on the keys that begin with \
                 SHARE_NAME."
            }
            Self::ReadOnly => "Let SHARE_URL name the primary, or Sentinels that know the primary.",
            Self::Full(_) => "Give the server more memory: raise its maxmemory.",
            Self::Refused(_) => "Look into the server's log.",
            Self::Reply(_) => "Let SHARE_URL name a Redis 6.2 or newer, or a Valkey.",
            Self::Sentinel(_) => {
                "Start the Sentinels, or correct their addresses and the name behind them in SHARE_URL."
            }
            Self::SentinelLogin(_) => {
                "Let SHARE_SENTINEL_PASSWORD_FILE name a file with the password of the Sentinels (their requirepass)."
            }
        }
    }
}

impl From<RedisError> for LinkError {
    fn from(error: RedisError) -> Self {
        if error.is_timeout() {
            return Self::Late;
        }
        match error.kind() {
            ErrorKind::AuthenticationFailed => Self::Login(text(&error)),
            ErrorKind::Parse | ErrorKind::UnexpectedReturnType => Self::Reply("the reply cannot be read"),
            ErrorKind::Io => Self::Broken(text(&error)),
            _ => match error.code() {
                Some(code) => of_server(code, error.detail().unwrap_or_default()),
                None => Self::Broken(text(&error)),
            },
        }
    }
}

impl From<&ServerError> for LinkError {
    fn from(error: &ServerError) -> Self {
        match error.kind() {
            Some(ServerErrorKind::ReadOnly) => Self::ReadOnly,
            _ => of_server(error.code(), error.details().unwrap_or_default()),
        }
    }
}

/// Returns the error for an error reply of the engine. The reply begins with `code`.
fn of_server(code: &str, detail: &str) -> LinkError {
    let text = format!("{code} {detail}").escape_debug().to_string();
    match code {
        "READONLY" => LinkError::ReadOnly,
        "OOM" => LinkError::Full(text),
        "NOPERM" => LinkError::Rights(text),
        "NOAUTH" | "WRONGPASS" => LinkError::Login(text),
        // Redis sends this if it has no password at all, or if AUTH has the wrong number of arguments.
        "ERR" if detail.contains("AUTH") => LinkError::Login(text),
        _ => LinkError::Refused(text),
    }
}

fn text(error: &RedisError) -> String {
    error.to_string().escape_debug().to_string()
}
