//! Docker's credential helpers: programs that give the login for a registry.

use std::ffi::OsStr;
use std::process::Stdio;
use std::time::Duration;

use docker_credential::DockerCredential;
use serde::Deserialize;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// How long a helper may take, including the wait for a helper that runs before it.
const HELPER_TIMEOUT: Duration = Duration::from_secs(10);

/// The text that a helper prints if it has no login for the server.
const NOT_FOUND: &str = "credentials not found";

/// Runs helpers, one at a time, so that helpers that hang do not pile up.
pub(super) struct CredentialHelpers {
    one: Semaphore,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HelperReply {
    username: String,
    secret: String,
}

impl CredentialHelpers {
    /// Makes a runner with no helper under way.
    pub(super) fn new() -> Self {
        Self { one: Semaphore::new(1) }
    }

    /// Asks a helper for the login of a server; `None` if the helper has none. The helper is killed at the deadline,
    /// and when this future is dropped. The error shows no output of the helper, because that could be a secret.
    pub(super) async fn ask(&self, program: &OsStr, server: &str) -> Result<Option<DockerCredential>, String> {
        let asked = timeout(HELPER_TIMEOUT, async {
            // The semaphore is never closed.
            let _one = self.one.acquire().await.map_err(|error| error.to_string())?;
            run(program, server).await
        });
        let late = |_| Err(format!("it took more than {} s", HELPER_TIMEOUT.as_secs()));
        asked.await.unwrap_or_else(late).map_err(|error| format!("{}: {error}", program.display()))
    }
}

async fn run(program: &OsStr, server: &str) -> Result<Option<DockerCredential>, String> {
    let mut command = Command::new(program);
    command.arg("get").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    let mut helper = command.spawn().map_err(|error| error.to_string())?;
    // An error is ignored: if the helper does not read its input, its output says what is wrong.
    if let Some(mut input) = helper.stdin.take() {
        let _ = input.write_all(server.as_bytes()).await;
    }
    let output = helper.wait_with_output().await.map_err(|error| error.to_string())?;
    if !output.status.success() {
        let has_nothing = String::from_utf8_lossy(&output.stdout).contains(NOT_FOUND);
        return if has_nothing { Ok(None) } else { Err("it failed".to_owned()) };
    }
    let HelperReply { username, secret } =
        serde_json::from_slice(&output.stdout).map_err(|_| "it gave no login".to_owned())?;
    Ok(Some(match username.as_str() {
        "<token>" => DockerCredential::IdentityToken(secret),
        _ => DockerCredential::UsernamePassword(username, secret),
    }))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rustix::process::{Pid, test_kill_process};
    use tempfile::TempDir;

    use super::*;

    /// Writes a helper that runs this script.
    fn helper(script: &str) -> (TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("docker-credential-test");
        // Another process writes the file, because a file that this process or a child has open for writing cannot be
        // run.
        let write = r#"printf '#!/bin/sh\n%s\n' "$2" > "$1" && chmod 700 "$1""#;
        let written = std::process::Command::new("sh").args(["-c", write, "sh"]).arg(&file).arg(script).status();
        assert!(written.unwrap().success());
        (folder, file)
    }

    async fn ask(script: &str) -> Result<Option<DockerCredential>, String> {
        let (_folder, file) = helper(script);
        CredentialHelpers::new().ask(file.as_os_str(), "quay.io").await
    }

    #[tokio::test]
    async fn a_helper_gives_a_login_a_token_or_nothing() {
        let login = ask(r#"echo "{\"Username\":\"$1\",\"Secret\":\"$(cat)\"}""#).await;
        assert_eq!(login, Ok(Some(DockerCredential::UsernamePassword("get".to_owned(), "quay.io".to_owned()))));
        let token = ask(r#"echo '{"Username":"<token>","Secret":"t"}'"#).await;
        assert_eq!(token, Ok(Some(DockerCredential::IdentityToken("t".to_owned()))));
        assert_eq!(ask("echo credentials not found in native keychain; exit 1").await, Ok(None));
    }

    #[tokio::test]
    async fn what_a_helper_prints_is_not_told() {
        for script in ["echo s3cret", "echo s3cret; exit 1", "echo s3cret >&2; exit 1"] {
            let error = ask(script).await.unwrap_err();
            assert!(error.contains("docker-credential-test: it ") && !error.contains("s3cret"), "{error}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_helper_that_hangs_is_killed_and_the_next_one_asked() {
        let (folder, file) = helper("echo $$ > \"$0.new\"; mv \"$0.new\" \"$0.pid\"; exec sleep 1000");
        let pid_file = folder.path().join("docker-credential-test.pid");
        let helpers = CredentialHelpers::new();
        let error = helpers.ask(file.as_os_str(), "quay.io").await.unwrap_err();
        assert!(error.contains("more than 10 s"), "{error}");
        // The helper may be killed before it has written its process id. Then there is nothing more to check.
        if let Ok(pid) = fs::read_to_string(&pid_file) {
            let pid = Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
            // A dead child stays until tokio reaps it, which happens when the next child starts.
            while test_kill_process(pid).is_ok() {
                let _ = ask("exit 1").await;
            }
        }
        assert!(helpers.one.try_acquire().is_ok());
    }
}
