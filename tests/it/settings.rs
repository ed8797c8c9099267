//! Every setting is declared once, in a file under `src/config/settings/`. The tests here give each setting a value by its
//! flags and by its variable. They also compare the files that list all settings with the declarations.
//!
//! `UPDATE_SETTINGS=1 cargo test --test it settings` writes the files that list all settings.

use std::ffi::OsString;
use std::fs;
use std::process::Command;
use std::sync::LazyLock;

use retracker::config;
use retracker::config::settings::all;
use settings::{About, Fallback, Flag, Origin, SECRET, Takes, plain};
use tempfile::NamedTempFile;

use crate::dsl::{TestAuthority, retracker};

// --- Values ---------------------------------------------------------------------------------------------------

/// Returns the configuration that these arguments and variables give, as text, or the error.
fn read(args: &[String], env: &[(&str, &str)]) -> Result<String, String> {
    let args = std::iter::once(OsString::from("retracker")).chain(args.iter().map(OsString::from));
    let value = |name: &str| env.iter().find(|(variable, _)| *variable == name).map(|(_, value)| value.into());
    let task = config::read(args, value).map_err(|error| error.to_string())?;
    // Two results may differ only in the origin of a value. So each origin is replaced by the same word.
    let mut text = format!("{task:?}");
    for About { flag, variable, .. } in all() {
        let origins = [flag.map(Origin::Flag), Some(Origin::Variable(variable))];
        origins.into_iter().flatten().for_each(|origin| text = text.replace(&format!("{origin:?}"), "here"));
        // The field `settings` is cut out, because it names the origins too. Another test checks it.
        if let Some(start) = text.find("settings: [") {
            let end = text.rfind("], warnings").unwrap_or(start);
            text.replace_range(start..end, "");
        }
    }
    Ok(text)
}

/// Returns the ways to give a setting this value on the command line.
fn ways(flag: Flag, value: &str) -> Vec<String> {
    let long = format!("--{}={value}", flag.long);
    std::iter::once(long).chain(flag.short.map(|short| format!("-{short}={value}"))).collect()
}

/// Returns the settings that this setting needs: a trusted proxy, a forwarder, shared blobs, a URL to share through, or a
/// listener for TLS with its certificate.
fn beside(setting: &About) -> Vec<(&'static str, &'static str)> {
    let mut others =
        vec![("TRUSTED_PROXIES", "127.0.0.1"), ("FORWARDS_FILE", "forwarders.example.yml"), ("TORRENTS", "true")];
    others.push(("SHARE_URL", "redis://127.0.0.1"));
    if is_of_certificate(setting) {
        let [chain, key] = certificate();
        others.extend([("LISTEN_ADDR", "tls://127.0.0.1:8443"), ("TLS_CERT_FILE", chain), ("TLS_KEY_FILE", key)]);
    }
    others.retain(|(variable, _)| *variable != setting.variable);
    others
}

fn is_of_certificate(setting: &About) -> bool {
    ["TLS_CERT_FILE", "TLS_KEY_FILE"].contains(&setting.variable)
}

/// Returns the paths of a certificate and its key. The declarations of the two settings have no example, because a
/// certificate or a key would be too long.
fn certificate() -> [&'static str; 2] {
    static FILES: LazyLock<[String; 2]> = LazyLock::new(|| {
        let (certificate, key) = TestAuthority::new().issue();
        [("settings-chain.pem", certificate.pem()), ("settings-key.pem", key.serialize_pem())].map(|(name, pem)| {
            let path = format!("{}/{name}", env!("CARGO_TARGET_TMPDIR"));
            fs::write(&path, pem).unwrap();
            path
        })
    });
    FILES.each_ref().map(String::as_str)
}

/// Returns the example of a setting. If the example is the content of a file, writes the file and returns its path. The
/// file exists until the returned `NamedTempFile` is dropped.
fn example(setting: &About) -> (Option<NamedTempFile>, String) {
    if setting.takes != Takes::File {
        return (None, setting.example.to_owned());
    }
    if is_of_certificate(setting) {
        let [chain, key] = certificate();
        return (None, if setting.variable == "TLS_KEY_FILE" { key } else { chain }.to_owned());
    }
    let file = NamedTempFile::new().unwrap();
    fs::write(&file, setting.example).unwrap();
    let path = file.path().to_str().unwrap().to_owned();
    (Some(file), path)
}

#[test]
fn every_setting_can_be_given_by_flag_and_by_variable() {
    for setting in all() {
        let (variable, others) = (setting.variable, beside(&setting));
        let with = |value: &str, args: &[String]| {
            let env: Vec<_> = others.iter().copied().chain([(variable, value)]).collect();
            read(args, &env)
        };
        let (_file, example) = example(&setting);
        // If the setting is a certificate or a key, the others have only its counterpart, which is an error.
        let unset = read(&[], &others);
        assert!(unset.is_ok() || is_of_certificate(&setting), "{variable}: {unset:?}");
        let set = with(&example, &[]);
        assert!(set.is_ok(), "{variable}={example}: {set:?}");
        assert_ne!(set, unset, "{variable}={example} changes nothing");
        assert_eq!(with("", &[]), unset, "{variable}: an empty value differs from no value");
        assert_eq!(with(&format!(" {example}\r"), &[]), set, "{variable} with white space around it");
        if let Fallback::Is(default) = setting.default {
            assert_eq!(with(default, &[]), unset, "{variable} is not {default:?} by default");
        }
        for flag in setting.flag.iter().flat_map(|flag| ways(*flag, &example)) {
            assert_eq!(with("a b", std::slice::from_ref(&flag)), set, "{flag} differs from {variable}={example}");
        }
    }
}

#[test]
fn a_bad_value_of_any_setting_is_named() {
    // env_logger ignores bad values.
    for setting in all().filter(|setting| setting.variable != "RUST_LOG") {
        let value = "a b";
        let variable = setting.variable;
        let mut results = vec![(variable.to_owned(), read(&[], &[(variable, value)]))];
        for flag in setting.flag.iter().flat_map(|flag| ways(*flag, value)) {
            let name = flag.split('=').next().unwrap().to_owned();
            results.push((name, read(&[flag], &[])));
        }
        for (name, result) in results {
            let error = result.expect_err(&format!("{name} may be {value:?}"));
            // The error is logged. So it does not show the wrong value of a secret, which may be nearly right.
            let is_secret = matches!(setting.takes, Takes::Secret(_));
            let shown = if is_secret { SECRET } else { value };
            for part in [name.as_str(), shown, "expected "] {
                assert!(error.contains(part), "{name}={value:?}: {part:?} is not in: {error}");
            }
            assert!(!is_secret || !error.contains(value), "{name}={value:?}: {error}");
        }
    }
}

#[test]
fn only_lists_may_be_repeated() {
    for setting in all() {
        let (_file, example) = example(&setting);
        let Some(flag) = setting.flag else { continue };
        let repeated = ways(flag, &example).remove(0);
        let result = read(&[repeated.clone(), repeated], &beside(&setting));
        assert_eq!(result.is_ok(), matches!(setting.takes, Takes::List(_)), "{flag}: {result:?}");
    }
}

// --- Help, pages and files ------------------------------------------------------------------------------------

#[test]
fn the_help_has_every_flag_with_its_variable_and_default() {
    let help = retracker(&["-h"]).run().stdout;
    assert_eq!(retracker(&["--help"]).run().stdout, help);
    assert!(help.lines().all(|line| line.chars().count() <= 120), "{help}");
    let words = help.split_whitespace().collect::<Vec<_>>().join(" ");
    for About { flag, variable, default, help, section, .. } in all() {
        let Some(flag) = flag else { continue };
        let default = match default {
            Fallback::Is(text) | Fallback::Unset(text) => plain(text),
        };
        let short = flag.short.map(|short| format!("-{short}, ")).unwrap_or_default();
        for part in [
            format!("{}:", section.0),
            format!("{short}--{}", flag.long),
            format!("{} [env: {variable}] [default: {default}]", plain(help)),
        ] {
            assert!(words.contains(&part), "{part:?} is not in\n{words}");
        }
    }
}

#[test]
fn the_configuration_page_lists_every_setting() {
    let mut table = Vec::new();
    let mut section = None;
    for setting in all() {
        if section.replace(setting.section) != Some(setting.section) {
            let title = setting.section.0;
            table.push(format!("\n### {title}\n"));
            table.push("| Flag | Variable | Effect | Default |\n|------|----------|--------|---------|".to_owned());
        }
        table.push(row(&setting));
    }
    table.push(format!("| | `HOST_PORT` | {HOST_PORT} | `8080` |\n\n"));
    compare("docs/configuration.md", "<!-- settings: begin -->\n", "<!-- settings: end -->\n", &table.join("\n"));
}

fn row(setting: &About) -> String {
    let flag = match setting.flag {
        None => String::new(),
        Some(Flag { short: Some(short), long, .. }) => format!("`-{short}`, `--{long}` "),
        Some(Flag { short: None, long, .. }) => format!("`--{long}` "),
    };
    let effect = format!("{} {}", setting.help, setting.details);
    let effect = effect.trim().trim_end_matches('.');
    let default = match setting.default {
        Fallback::Is(value) => format!("`{value}`"),
        Fallback::Unset(words) => words.to_owned(),
    };
    format!("| {flag}| `{}` | {effect} | {default} |", setting.variable)
}

/// The effect of a variable that only docker-compose.yml has, not the program.
const HOST_PORT: &str = "Docker only: the port on the host";

#[test]
fn the_example_of_env_explains_every_variable() {
    let host_port = "\n# The port of this machine that torrent clients announce to.\nHOST_PORT=8080\n".to_owned();
    let entries: String = std::iter::once(host_port).chain(all().map(|setting| entry(&setting))).collect();
    compare(".env.example", "A comment needs a line of its own.\n", "", &entries);
}

#[test]
fn the_settings_of_the_debian_package_explain_every_variable() {
    let entries: String = all().map(|setting| debian_entry(&setting)).collect();
    compare("contrib/debian/retracker.default", "shows the default.\n", "", &entries);
}

/// Returns the entry of a setting in the package's file. The entry is a comment, because the package starts with all
/// defaults. The files that settings name are in `/etc/retracker`.
fn debian_entry(setting: &About) -> String {
    let (value, unset) = match setting.default {
        Fallback::Is(value) => (value, String::new()),
        Fallback::Unset(words) => ("", format!("Default: {}.", plain(words))),
    };
    // The service may create Unix sockets only in its own folder.
    let help = plain(setting.help).replace("/run/retracker.sock", "/run/retracker/retracker.sock");
    let path = setting.docker.strip_prefix("This is a path inside the container: ");
    let path =
        path.map(|path| format!("For example: {}", path.replace("/app/", "/etc/retracker/"))).unwrap_or_default();
    let text = [help, path, unset].map(|part| by_variable(&part));
    let text = text.iter().filter(|part| !part.is_empty()).map(String::as_str).collect::<Vec<_>>().join(" ");
    format!("\n{}\n#{}={value}\n", comment(&text), setting.variable)
}

fn entry(setting: &About) -> String {
    let (value, empty) = match setting.default {
        Fallback::Is(value) => (value, String::new()),
        Fallback::Unset(words) => ("", format!("Empty: {}.", plain(words))),
    };
    let text = [&plain(setting.help), setting.docker, &empty].map(by_variable);
    let text = text.iter().filter(|part| !part.is_empty()).map(String::as_str).collect::<Vec<_>>().join(" ");
    format!("\n{}\n{}={value}\n", comment(&text), setting.variable)
}

/// Replaces the flags in a text by their variables, because `.env` has only variables.
fn by_variable(text: &str) -> String {
    let flags = all().filter_map(|setting| Some((format!("`--{}`", setting.flag?.long), setting.variable)));
    flags.fold(text.to_owned(), |text, (flag, variable)| text.replace(&flag, variable))
}

/// Wraps a text into comment lines of about 100 columns.
fn comment(text: &str) -> String {
    let (mut lines, mut line) = (Vec::new(), "#".to_owned());
    for word in text.split(' ') {
        if line.len() + word.len() > 100 {
            lines.push(std::mem::replace(&mut line, "#".to_owned()));
        }
        line = format!("{line} {word}");
    }
    lines.push(line);
    lines.join("\n")
}

#[test]
fn docker_compose_passes_every_variable() {
    let entry = |About { variable, default, .. }| match default {
        Fallback::Is(value) => format!("      {variable}: \"${{{variable}:-{value}}}\"\n"),
        Fallback::Unset(_) => format!("      {variable}: \"${{{variable}:-}}\"\n"),
    };
    compare(
        "docker-compose.yml",
        "    environment:\n",
        "\n    # For forwarding",
        &all().map(entry).collect::<String>(),
    );
}

// --- Manual page and completions ------------------------------------------------------------------------------

/// Returns the output of a command.
fn printed(args: &[&str]) -> String {
    let exit = retracker(args).run();
    assert_eq!((exit.code, exit.stderr.len()), (Some(0), 0), "{args:?}: {exit:?}");
    exit.stdout
}

/// Feeds a text to a program, if the program is installed. The program must not report errors.
fn accepts(program: &str, args: &[&str], text: &str) {
    let file = NamedTempFile::new().unwrap();
    fs::write(&file, text).unwrap();
    match Command::new(program).args(args).arg(file.path()).output() {
        Ok(output) => assert!(output.status.success() && output.stderr.is_empty(), "{program}: {output:?}"),
        Err(error) => eprintln!("skipped: {program} cannot be run ({error})"),
    }
}

#[test]
fn the_manual_page_has_every_setting_and_command() {
    let page = printed(&["man"]);
    let text = page.replace("\\-", "-");
    for About { flag, variable, details, .. } in all() {
        assert!(flag.is_none_or(|flag| text.contains(&format!("--{}", flag.long))), "{variable}");
        assert!(text.contains(variable), "{variable}");
        assert!(text.contains(&plain(details)), "{variable}: {details}");
    }
    for argument in ["--offline", "--name NAME", "[--udp-port PORT]"] {
        assert!(text.contains(argument), "{argument}");
    }
    for section in ["COMMANDS", "ENVIRONMENT", "EXIT STATUS"] {
        assert!(text.contains(section), "{section}");
    }
    accepts("groff", &["-man", "-ww", "-z"], &page);
}

#[test]
fn completions_have_every_flag_and_command() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = printed(&["completions", shell]);
        let flags = all().filter_map(|setting| setting.flag).map(|flag| flag.long);
        for name in flags.chain(["check", "dns", "healthcheck", "man", "completions", "udp-port"]) {
            assert!(script.contains(name), "{shell}: {name}");
        }
        if ["bash", "fish", "zsh"].contains(&shell) {
            accepts(shell, &["-n"], &script);
        }
    }
    for (args, part) in [(&["completions"][..], "<SHELL>"), (&["completions", "tcsh"], "expected one of bash, ")] {
        let exit = retracker(args).run();
        assert!(exit.code == Some(2) && exit.stderr.len() == 1 && exit.stderr[0].contains(part), "{exit:?}");
    }
}

/// Compares the text between two markers of a file, or rewrites it.
fn compare(path: &str, begin: &str, end: &str, expected: &str) {
    let text = fs::read_to_string(path).unwrap();
    let (before, rest) = text.split_once(begin).unwrap_or_else(|| panic!("{path} has no {begin:?}"));
    let found_end = if end.is_empty() { Some(rest.len()) } else { rest.find(end) };
    let (found, after) = rest.split_at(found_end.unwrap_or_else(|| panic!("{path} has no {end:?}")));
    if found == expected {
        return;
    }
    if std::env::var_os("UPDATE_SETTINGS").is_some() {
        return fs::write(path, [before, begin, expected, after].concat()).unwrap();
    }
    let same = expected.lines().zip(found.lines()).take_while(|(expected, found)| expected == found).count();
    panic!(
        "{path} is not what src/config/settings/ says; UPDATE_SETTINGS=1 cargo test --test it settings rewrites it. \
         The first difference:\ndeclared: {:?}\nfound: {:?}",
        expected.lines().nth(same),
        found.lines().nth(same)
    );
}
