//! `retracker check --chihaya FILE`. The two files are those that a registry's pages showed, letter for letter.
//!
//! `INSTA_UPDATE=always cargo test --test it chihaya` writes the expected output anew.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::dsl::{Exit, retracker};
use crate::fake_tracker::{FakeTracker, sends};
use crate::service::{ONE_PEER, forwarders};

const V2: &str = include_str!("chihaya/quay-v2.yaml");
const V1: &str = include_str!("chihaya/quay-v1.json");

/// A folder with files of Chihaya.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// What the linter says of a file with this text, with the file's name in place of its path.
    fn lint(&self, name: &str, text: &str) -> Exit {
        let path = self.write(name, text);
        let mut exit = check(&path);
        let path = path.to_str().unwrap();
        exit.stdout = exit.stdout.replace(path, name);
        exit.stderr.iter_mut().for_each(|line| *line = line.replace(path, name));
        exit
    }
}

fn check(path: &Path) -> Exit {
    retracker(&["check", "--chihaya", path.to_str().unwrap()]).run()
}

/// The placeholders replaced as the pages say.
fn replaced(text: &str) -> String {
    let text = text.replace("https://{QE LOCATION}", "{QE LOCATION}").replace("http://{TRACKER", "{TRACKER");
    text.replace("{QE LOCATION}", "https://quay.example").replace("{TRACKER LOCATION}", "https://tracker.example")
}

#[test]
fn the_file_of_v2_as_the_page_shows_it() {
    let exit = Files::new().lint("chihaya.yaml", V2);
    assert_eq!((exit.code, exit.stderr.len()), (Some(1), 0), "{exit:?}");
    insta::assert_snapshot!(exit.stdout);
}

#[test]
fn the_file_of_v2_with_its_placeholders_replaced() {
    let exit = Files::new().lint("chihaya.yaml", &replaced(V2));
    assert_eq!((exit.code, exit.stderr.len()), (Some(1), 0), "{exit:?}");
    insta::assert_snapshot!(exit.stdout);
}

#[test]
fn the_file_of_v1_as_the_page_shows_it() {
    let exit = Files::new().lint("config.json", V1);
    assert_eq!((exit.code, exit.stderr.len()), (Some(1), 0), "{exit:?}");
    insta::assert_snapshot!(exit.stdout);
}

#[test]
fn the_file_of_v1_with_its_placeholders_replaced() {
    let exit = Files::new().lint("config.json", &replaced(V1));
    assert_eq!((exit.code, exit.stderr.len()), (Some(1), 0), "{exit:?}");
    insta::assert_snapshot!(exit.stdout);
}

#[test]
fn exit_codes() {
    let files = Files::new();
    let open = "chihaya:\n  announce_interval: 10m\n  http:\n    addr: :80\n";
    let exit = files.lint("a.yaml", open);
    assert_eq!((exit.code, exit.stderr.len()), (Some(0), 0), "{exit:?}");
    assert!(exit.stdout.contains("All that restricts access is in force; warnings: 0.\n"), "{exit:?}");

    // A value is wrong: all lines are printed, and the first error ends the program as any other wrong value does.
    let exit = files.lint("a.yaml", &open.replace("10m", "10").replace("http:", "http:\n    max_numwant: x"));
    assert_eq!(exit.code, Some(2), "{exit:?}");
    assert_eq!(exit.stdout.matches("error: ").count(), 2, "{exit:?}");
    assert!(exit.stdout.contains("Values are wrong (lines: 2)"), "{exit:?}");
    let [line] = &exit.stderr[..] else { panic!("{exit:?}") };
    assert!(line.starts_with("retracker: a.yaml line 2: announce_interval is \"10\", expected a duration"), "{line}");

    // It is no file of Chihaya's.
    for text in ["", "a: 1\n", "{", "chihaya: [\n", "\u{0}"] {
        let exit = files.lint("a.yaml", text);
        assert_eq!((exit.code, exit.stdout.as_str(), exit.stderr.len()), (Some(2), "", 1), "{text:?}: {exit:?}");
        assert!(exit.stderr[0].contains("a.yaml"), "{exit:?}");
    }
    let missing = check(&files.0.path().join("missing"));
    assert_eq!(missing.code, Some(2));
    assert!(
        missing.stderr[0].contains("--chihaya: ") && missing.stderr[0].contains("expected chihaya.yaml"),
        "{missing:?}"
    );
}

#[test]
fn the_path_may_have_variables_and_come_from_one() {
    let files = Files::new();
    let path = files.write("chihaya.yaml", "chihaya:\n  announce_interval: 10m\n");
    let folder = files.0.path();
    for setup in [
        retracker(&["check", "--chihaya", "$FOLDER/chihaya.yaml"]),
        retracker(&["check", "--chihaya=${FOLDER}/chihaya.yaml"]).env("CHIHAYA_CONFIG", "/no/such/file"),
        retracker(&["--chihaya", "$FOLDER/chihaya.yaml", "check"]),
        retracker(&["check"]).env("CHIHAYA_CONFIG", "$FOLDER/chihaya.yaml"),
    ] {
        let exit = setup.env("FOLDER", folder).run();
        assert!(exit.code == Some(0) && exit.stdout.starts_with(path.to_str().unwrap()), "{exit:?}");
    }
}

#[test]
fn both_files_are_checked_when_both_are_given() {
    let files = Files::new();
    let chihaya = files.write("chihaya.yaml", "chihaya:\n  announce_interval: 10m\n");
    let upstream = FakeTracker::start(sends(ONE_PEER));
    let file = forwarders(&upstream);
    let exit = retracker(&["check", "--chihaya", chihaya.to_str().unwrap(), "-f", file.path().to_str().unwrap()]).run();
    assert_eq!(exit.code, Some(0), "{exit:?}");
    assert!(exit.stdout.contains("announce_interval: 10m -> ") && exit.stdout.contains("VERDICT"), "{exit:?}");
}

/// The rules of the file are not in force yet, so that serving would let in whom the file refuses.
#[test]
fn serving_is_refused_so_far() {
    let files = Files::new();
    let path = files.write("chihaya.yaml", "chihaya:\n  announce_interval: 10m\n");
    let path = path.to_str().unwrap();
    for setup in [
        retracker(&["-l", "127.0.0.1:0", "--chihaya", path]),
        retracker(&["-l", "127.0.0.1:0"]).env("CHIHAYA_CONFIG", path),
    ] {
        let exit = setup.run();
        let line = exit.stderr.last().unwrap();
        assert!(
            exit.code == Some(1) && line.contains("only checks the file") && !line.contains("listening"),
            "{exit:?}"
        );
    }
}
