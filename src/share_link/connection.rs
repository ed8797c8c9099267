//! A connection to the engine.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Pipeline, RedisConnectionInfo, Value};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::error::LinkError;
use super::stream;
use super::target::{EnginePassword, EnginePlace};

/// How long a connection may take to open, and the engine to answer. A healthy engine takes milliseconds.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// A connection to the engine. Dropping it closes it.
#[derive(Debug)]
pub(super) struct EngineConnection {
    commands: MultiplexedConnection,
    _driver: AbortOnDropHandle<()>,
}

impl EngineConnection {
    /// Connects to this place, which is not that of Sentinels.
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

/// What a connection begins with.
pub(super) fn login(user: Option<&str>, password: Option<&EnginePassword>, database: u16) -> RedisConnectionInfo {
    // Servers before 7.2 answer the library's name with an error, and some users may not set it.
    let mut login = RedisConnectionInfo::default().set_db(database.into()).set_skip_set_lib_name();
    if let Some(user) = user {
        login = login.set_username(user);
    }
    if let Some(EnginePassword(password)) = password {
        login = login.set_password(password);
    }
    login
}
