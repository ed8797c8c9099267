//! Connects to the engine. If the URL names Sentinels, they are asked first which server is the primary.

use redis::{Value, pipe};

use super::address::EngineAddress;
use super::connection::{EngineConnection, login};
use super::error::LinkError;
use super::reply;
use super::target::{EnginePlace, EngineTarget};

/// Connects to the engine. Each call asks the Sentinels again, because another server may have become the primary.
pub(super) async fn connect(target: &EngineTarget) -> Result<EngineConnection, LinkError> {
    let EngineTarget { place, user, password, database } = target;
    let login = login(user.as_deref(), password.as_ref(), *database);
    match place {
        EnginePlace::Sentinel { sentinels, primary: name } => {
            let address = primary(sentinels, name).await?;
            EngineConnection::to(&EnginePlace::Tcp(address), login).await
        }
        place => EngineConnection::to(place, login).await,
    }
}

/// Returns the address of the primary with this name, from the first Sentinel that knows the primary.
async fn primary(sentinels: &[EngineAddress], name: &str) -> Result<EngineAddress, LinkError> {
    let mut failures = Vec::new();
    for sentinel in sentinels {
        match ask(sentinel, name).await {
            Ok(address) => return Ok(address),
            Err(error) => failures.push(format!("{sentinel} {error}")),
        }
    }
    Err(LinkError::Sentinel(failures.join("; ")))
}

async fn ask(sentinel: &EngineAddress, name: &str) -> Result<EngineAddress, LinkError> {
    let mut connection = EngineConnection::to(&EnginePlace::Tcp(sentinel.clone()), login(None, None, 0)).await?;
    let mut question = pipe();
    question.cmd("SENTINEL").arg("get-master-addr-by-name").arg(name);
    let replies = connection.ask(&question).await?;
    let parts = match replies.as_slice() {
        [Value::Nil] => return Err(LinkError::Reply("the Sentinel knows no primary of that name")),
        [reply] => reply::items(reply)?,
        _ => &[],
    };
    let [host, port] = parts else { return Err(LinkError::Reply("SENTINEL")) };
    let port = reply::text(port)?.parse().map_err(|_| LinkError::Reply("SENTINEL"))?;
    Ok(EngineAddress { host: reply::text(host)?.to_owned(), port })
}
