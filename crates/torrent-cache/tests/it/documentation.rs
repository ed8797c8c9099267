//! docs/torrent-cache.md: the program understands the commands of the page, and the table lists every setting.
//!
//! `UPDATE_SETTINGS=1 cargo test -p torrent-cache --test it documentation` writes the table.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use settings::Fallback;
use torrent_cache::config::{command, settings::all};

const BEGIN: &str = "<!-- settings -->\n";
const END: &str = "<!-- /settings -->\n";

fn page() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/torrent-cache.md"))
}

fn table() -> String {
    let mut table = "| Flag | Variable | What it does | Default |\n|-|-|-|-|\n".to_owned();
    for about in all() {
        let flag = about.flag.map(|flag| {
            let short = flag.short.map(|short| format!("`-{short}`, ")).unwrap_or_default();
            format!("{short}`--{}`", flag.long)
        });
        let default = match about.default {
            Fallback::Is(text) => format!("`{text}`"),
            Fallback::Unset(text) => text.to_owned(),
        };
        let help = about.help.trim_end_matches('.');
        writeln!(table, "| {} | `{}` | {help} | {default} |", flag.unwrap_or_default(), about.variable).unwrap();
    }
    table
}

#[test]
fn the_table_has_every_setting() {
    let text = fs::read_to_string(page()).unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (shown, after) = rest.split_once(END).unwrap();
    if std::env::var_os("UPDATE_SETTINGS").is_some() {
        fs::write(page(), format!("{before}{BEGIN}{}{END}{after}", table())).unwrap();
    } else {
        assert_eq!(shown, table());
    }
}

#[test]
fn every_command_is_understood() {
    let text = fs::read_to_string(page()).unwrap();
    let commands: Vec<_> = text.lines().filter(|line| line.starts_with("torrent-cache ")).collect();
    assert!(commands.len() >= 2);
    for line in commands {
        command().try_get_matches_from(line.split_whitespace()).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
}
