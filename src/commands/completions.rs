//! `retracker completions SHELL`: prints the script that completes the command line in that shell.

use clap_complete::{Shell, generate};

use crate::config;

pub(super) fn script(shell: Shell) -> String {
    let mut script = Vec::new();
    generate(shell, &mut config::command(), "retracker", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}
