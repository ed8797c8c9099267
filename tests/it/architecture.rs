//! The layers: imports point one way, and siblings do not import each other.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Each module, and the modules that it may import.
const LAYERS: [(&str, &[&str]); 16] = [
    ("answer", &[]),
    ("cache", &["clock", "eviction", "hash"]),
    ("clock", &[]),
    ("eviction", &["hash"]),
    ("hash", &[]),
    ("log_output", &[]),
    ("metrics", &[]),
    ("signals", &[]),
    ("topology", &["clock"]),
    ("store", &["clock", "eviction", "hash", "metrics", "topology"]),
    ("forward", &["answer", "cache", "clock", "metrics", "topology"]),
    ("tracker", &["answer", "clock", "metrics", "topology", "store", "forward"]),
    ("frontend", &["answer", "clock", "metrics", "topology", "tracker"]),
    ("config", &["forward", "frontend", "store", "topology", "tracker"]),
    ("app", &["clock", "config", "forward", "frontend", "log_output", "metrics", "signals", "store", "tracker"]),
    ("commands", &["config", "forward", "frontend"]),
];

#[test]
fn imports_point_one_way() {
    let mut wrong = Vec::new();
    let mut modules = BTreeSet::new();
    for file in sources(Path::new("src")) {
        let module = module(&file);
        // Tests and their helpers may import anything.
        if ["lib", "main"].contains(&module.as_str()) || file.ends_with("tests.rs") || file.ends_with("rehearsal.rs") {
            continue;
        }
        let allowed = LAYERS.iter().find(|(name, _)| *name == module);
        let (_, allowed) = allowed.unwrap_or_else(|| panic!("{} belongs to no layer", file.display()));
        let text = fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        for imported in code.split("crate::").skip(1).map(first_word) {
            if imported != module && !allowed.contains(&imported) {
                wrong.push(format!("{}: crate::{imported}", file.display()));
            }
        }
        modules.insert(module);
    }
    assert_eq!(wrong, [""; 0]);
    assert_eq!(modules.len(), LAYERS.len(), "{modules:?}");
}

fn first_word(text: &str) -> &str {
    text.split(|c: char| !(c.is_alphanumeric() || c == '_')).next().unwrap_or_default()
}

/// The first folder or file name below `src`.
fn module(file: &Path) -> String {
    let below = file.strip_prefix("src").unwrap();
    below.components().next().unwrap().as_os_str().to_string_lossy().trim_end_matches(".rs").to_owned()
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let (folders, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let own = files.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    own.chain(folders.iter().flat_map(|folder| sources(folder))).collect()
}
