//! Expands variables in the path of a file as Go's `os.ExpandEnv` does: `$HOME/chihaya.yaml`, `${DIR}/config.json`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Replaces variables in a path by their values. A variable that is not set counts as empty.
pub(super) fn expand(path: &Path, env: impl Fn(&str) -> Option<OsString>) -> PathBuf {
    // A path that is not UTF-8 stays as it is.
    let Some(text) = path.to_str() else { return path.to_owned() };
    let mut expanded = OsString::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('$') {
        expanded.push(before);
        let (name, after) = name(behind);
        match name {
            Some(name) => expanded.push(env(name).unwrap_or_default()),
            None => expanded.push("$"),
        }
        rest = after;
    }
    expanded.push(rest);
    expanded.into()
}

/// Splits off the name of a variable at the beginning of a text.
fn name(text: &str) -> (Option<&str>, &str) {
    if let Some((name, after)) = text.strip_prefix('{').and_then(|text| text.split_once('}')) {
        return (Some(name), after);
    }
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    match text.split_at_checked(text.bytes().take_while(is_name).count()) {
        Some((name, after)) if !name.is_empty() => (Some(name), after),
        _ => (None, text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_become_their_values() {
        let env = |name: &str| match name {
            "DIR" => Some("/etc".into()),
            "N_1" => Some("one".into()),
            _ => None,
        };
        for (path, expected) in [
            ("$DIR/chihaya.yaml", "/etc/chihaya.yaml"),
            ("${DIR}x.json", "/etcx.json"),
            ("/a/$N_1-$N_1.yaml", "/a/one-one.yaml"),
            ("$UNSET/a", "/a"),
            ("${UNSET}a", "a"),
            ("a$", "a$"),
            ("a$/b", "a$/b"),
            ("${DIR", "${DIR"),
            ("plain.yaml", "plain.yaml"),
        ] {
            assert_eq!(expand(Path::new(path), env), Path::new(expected), "{path}");
        }
    }
}
