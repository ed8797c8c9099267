//! A connection to the engine.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Pipeline, RedisConnectionInfo, Value};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::error::LinkError;
use super::stream;
use super::target::{EnginePassword, EnginePlace};

/// How long a connection may take to open, and how long the engine may take to answer. A healthy engine takes
/// milliseconds.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// A connection to the engine. It closes when this value is dropped.
#[derive(Debug)]
pub(super) struct EngineConnection {
    commands: MultiplexedConnection,
    _driver: AbortOnDropHandle<()>,
}

impl EngineConnection {
    /// Connects to the server at this place: the engine, or one Sentinel by its address. The place must not be
    /// [`EnginePlace::Sentinel`], because the primary's address must be known before.
    pub(super) async fn to(place: &EnginePlace, login: RedisConnectionInfo) -> Result<Self, LinkError> {
        let opening = async {
            let stream = stream::open(place).await?;
            let config = AsyncConnectionConfig::new().set_response_timeout(Some(PATIENCE));
            let (commands, driver) = MultiplexedConnection::new_with_config(&login, stream, config).await?;
            Ok(Self { commands, _driver: AbortOnDropHandle::new(tokio::spawn(driver)) })
        };
        timeout(PATIENCE, opening).await.unwrap_or(Err(LinkError::Late))
    }

    /// Sends commands, and returns the reply to each. A reply may be an error.
    pub(super) async fn ask(&mut self, commands: &Pipeline) -> Result<Vec<Value>, LinkError> {
        let replies = self.commands.send_packed_commands(commands, 0, commands.len()).await?;
        if replies.len() == commands.len() { Ok(replies) } else { Err(LinkError::Reply("a reply is missing")) }
    }
}

/// Returns the login with which a connection begins: the user, the password and the database.
pub(super) fn login(user: Option<&str>, password: Option<&EnginePassword>, database: u16) -> RedisConnectionInfo {
    // The connection does not tell the library's name, because servers before 7.2 answer it with an error, and some
    // users lack the right to set it.
    let mut login = RedisConnectionInfo::default().set_db(database.into()).set_skip_set_lib_name();
    if let Some(user) = user {
        login = login.set_username(user);
    }
    if let Some(EnginePassword(password)) = password {
        login = login.set_password(password);
    }
    login
}
