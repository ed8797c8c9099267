//! Reads the settings of several instances together.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use ::settings::{Origin, Sources};

use super::error::ConfigError;
use super::settings::{SHARE, SHARE_NAME, SHARE_PASSWORD_FILE, SHARE_SENTINEL_PASSWORD_FILE, SHARE_WARM_UP};
use crate::share_link::{EnginePassword, EngineTarget, ShareOptions};

/// The most bytes that are read from a password file. Every password is shorter.
const LONGEST: u64 = 4096;

/// Reads the settings. A wrong value is an error even without `--share`. `also` is the server in Chihaya's file.
pub(super) fn given(sources: &Sources<'_>, also: Option<EngineTarget>) -> Result<Option<ShareOptions>, ConfigError> {
    let (name, warm_up) = (SHARE_NAME.read(sources)?, SHARE_WARM_UP.read(sources)?);
    let password = SHARE_PASSWORD_FILE.given(sources)?.map(|file| password(file.origin, &file.value)).transpose()?;
    let of_sentinels = SHARE_SENTINEL_PASSWORD_FILE.given(sources)?;
    let of_sentinels = of_sentinels.map(|file| self::password(file.origin, &file.value)).transpose()?;
    let with_passwords = |target: EngineTarget| {
        let target = match &password {
            Some(password) => target.with_password(password.clone()),
            None => target,
        };
        match &of_sentinels {
            Some(password) => target.with_sentinel_password(password.clone()),
            None => target,
        }
    };
    let target = match SHARE.given(sources)? {
        Some(given) if password.is_none() && given.value.lacks_password() => {
            return Err(given.refuse(NO_PASSWORD).into());
        }
        Some(given) => Some(given.value),
        None => also,
    };
    Ok(target.map(|target| ShareOptions { target: with_passwords(target), name, warm_up }))
}

const NO_PASSWORD: &str = "a password behind the user, as in redis://user:password@host, or a file with it in \
                           SHARE_PASSWORD_FILE; without a user, redis://:password@host";

fn password(origin: Origin, path: &Path) -> Result<EnginePassword, ConfigError> {
    let unreadable = |error: String| ConfigError::Unreadable {
        origin,
        path: path.to_owned(),
        error,
        expected: SHARE_PASSWORD_FILE.expected,
    };
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(LONGEST).read_to_string(&mut text));
    read.map_err(|error| unreadable(error.to_string()))?;
    let text = text.trim();
    if text.is_empty() || text.lines().count() > 1 {
        return Err(unreadable("it has no password, or several lines".to_owned()));
    }
    Ok(EnginePassword(text.to_owned()))
}
