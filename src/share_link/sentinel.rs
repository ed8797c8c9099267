//! Connects to the engine. If the URL names Sentinels, they are asked first which server is the primary.

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use redis::{Value, pipe};

use super::address::EngineAddress;
use super::connection::{EngineConnection, login};
use super::error::LinkError;
use super::reply;
use super::target::{EnginePassword, EnginePlace, EngineTarget};

/// Connects to the engine. Each call asks the Sentinels again, because another server may have become the primary.
pub(super) async fn connect(target: &EngineTarget) -> Result<EngineConnection, LinkError> {
    let EngineTarget { place, user, password, sentinel_password, database } = target;
    let login = login(user.as_deref(), password.as_ref(), *database);
    match place {
        EnginePlace::Sentinel { sentinels, primary: name } => {
            let address = primary(sentinels, name, sentinel_password.as_ref().or(password.as_ref())).await?;
            EngineConnection::to(&EnginePlace::Tcp(address), login).await
        }
        place => EngineConnection::to(place, login).await,
    }
}

/// Returns the address of the primary with this name, from the first Sentinel that knows the primary. All Sentinels are
/// asked at once, because a host that is cut off says nothing.
async fn primary(
    sentinels: &[EngineAddress],
    name: &str,
    password: Option<&EnginePassword>,
) -> Result<EngineAddress, LinkError> {
    let asked = |sentinel| async move { (sentinel, ask(sentinel, name, password).await) };
    let mut answers: FuturesUnordered<_> = sentinels.iter().map(asked).collect();
    let (mut failures, mut is_refused) = (Vec::new(), false);
    while let Some((sentinel, answer)) = answers.next().await {
        match answer {
            Ok(address) => return Ok(address),
            Err(error) => {
                is_refused |= matches!(error, LinkError::Login(_));
                failures.push(format!("{sentinel} {error}"));
            }
        }
    }
    // The Sentinels answer in any order, but the text must be the same each time.
    failures.sort_unstable();
    let failures = failures.join("; ");
    Err(if is_refused { LinkError::SentinelLogin(failures) } else { LinkError::Sentinel(failures) })
}

/// Asks one Sentinel, first without a password, because a Sentinel that has no password refuses every password.
async fn ask(
    sentinel: &EngineAddress,
    name: &str,
    password: Option<&EnginePassword>,
) -> Result<EngineAddress, LinkError> {
    match (ask_with(sentinel, name, None).await, password) {
        (Err(LinkError::Login(_)), Some(password)) => ask_with(sentinel, name, Some(password)).await,
        (answer, _) => answer,
    }
}

async fn ask_with(
    sentinel: &EngineAddress,
    name: &str,
    password: Option<&EnginePassword>,
) -> Result<EngineAddress, LinkError> {
    let mut connection = EngineConnection::to(&EnginePlace::Tcp(sentinel.clone()), login(None, password, 0)).await?;
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
