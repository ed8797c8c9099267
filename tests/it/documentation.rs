//! The documentation: every fenced block is run or parsed, every link has a target, and the lists of settings and metrics
//! are those of the program.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use retracker::config::{self, Subcommand, Task};
use tempfile::TempDir;
use tracker_protocol::metainfo::{MIN_PIECE_LENGTH, Metainfo, MetainfoParts};

use crate::dsl::{CertificateFiles, Server, announce, retracker};

/// A Markdown file, with its path from the root of the repository.
struct Page {
    path: PathBuf,
    text: String,
}

impl Page {
    fn read(path: PathBuf) -> Self {
        Self { text: fs::read_to_string(&path).unwrap(), path }
    }
}

/// A fenced block of a page.
struct Block {
    /// The page and the line, for failure messages.
    place: String,
    language: String,
    text: String,
    /// The paragraph before the block.
    intro: String,
}

fn pages() -> Vec<Page> {
    let beside = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "benches/README.md"];
    let mut paths: Vec<_> = beside.map(PathBuf::from).into();
    paths.extend(files("docs").into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "md")));
    paths.into_iter().map(Page::read).collect()
}

fn files(folder: impl AsRef<Path>) -> Vec<PathBuf> {
    let mut found: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}

fn blocks(page: &Page) -> Vec<Block> {
    let (mut found, mut open) = (Vec::new(), None::<Block>);
    let (mut intro, mut is_complete) = (String::new(), false);
    for (number, line) in page.text.lines().enumerate() {
        match (open.as_mut(), line.strip_prefix("```")) {
            (None, Some(language)) => {
                let place = format!("{}:{}", page.path.display(), number + 1);
                let (language, intro) = (language.to_owned(), std::mem::take(&mut intro));
                open = Some(Block { place, language, text: String::new(), intro });
            }
            (Some(block), None) => block.text.extend([line, "\n"]),
            (Some(_), Some(_)) => found.extend(open.take()),
            (None, None) if line.is_empty() => is_complete = true,
            (None, None) => {
                if std::mem::take(&mut is_complete) {
                    intro.clear();
                }
                intro.push_str(line);
            }
        }
    }
    assert!(open.is_none(), "{}: a block has no end", page.path.display());
    found
}

fn all_blocks(language: &str) -> Vec<Block> {
    pages().iter().flat_map(blocks).filter(|block| block.language == language).collect()
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn the_readme_is_short() {
    let lines = read("README.md").lines().count();
    assert!(lines <= 200, "README.md has {lines} lines: move something to docs/");
}

#[test]
fn every_block_has_a_tested_language() {
    let tested = ["sh", "yaml", "json", "nginx", "conf", "hosts", "promql", "mermaid", "text"];
    for block in pages().iter().flat_map(blocks) {
        assert!(tested.contains(&block.language.as_str()), "{}: no test reads {:?}", block.place, block.language);
    }
}

// --- Files ----------------------------------------------------------------------------------------------------

#[test]
fn yaml_blocks_are_files_that_the_program_accepts() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("block.yml");
    let blocks = all_blocks("yaml");
    for Block { place, text, .. } in &blocks {
        fs::write(&path, text).unwrap();
        if text.starts_with("# zones.yml") {
            assert_eq!(Server::start(&["--zones", path.to_str().unwrap()]).get("/health").status, 200, "{place}");
        } else if text.starts_with("# access.yml") {
            let exit = retracker(&["check", "--offline", "--access", path.to_str().unwrap()]).run();
            assert_eq!(exit.code, Some(0), "{place}: {exit:?}");
        } else if text.starts_with("# chihaya.yaml") {
            let exit = retracker(&["check", "--chihaya", path.to_str().unwrap()]).run();
            assert!(exit.code == Some(0) || exit.code == Some(1), "{place}: {exit:?}");
        } else {
            assert!(text.starts_with("# forwarders.yml"), "{place}: its first line does not say which file it is");
            let exit = retracker(&["check", "--offline", "-f", path.to_str().unwrap()]).run();
            assert_eq!(exit.code, Some(0), "{place}: {exit:?}");
        }
    }
    assert!(blocks.len() >= 4, "{}", blocks.len());
}

#[test]
fn json_blocks_are_files_of_chihaya() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.json");
    for Block { place, text, .. } in all_blocks("json") {
        fs::write(&path, text).unwrap();
        let exit = retracker(&["check", "--chihaya", path.to_str().unwrap()]).run();
        assert!(exit.code == Some(0) || exit.code == Some(1), "{place}: {exit:?}");
        assert!(exit.stdout.contains("in the form of Chihaya v1.0"), "{place}: {exit:?}");
    }
}

#[test]
fn the_example_files_are_accepted() {
    for (flag, path) in [("-f", "forwarders.example.yml"), ("--access", "access.example.yml")] {
        let exit = retracker(&["check", "--offline", flag, path]).run();
        assert_eq!(exit.code, Some(0), "{path}: {exit:?}");
    }
}

/// The shell suites and the tests below run the files in `contrib/`. A page that shows one of these files must show it
/// unchanged.
#[test]
fn configuration_of_other_programs_equals_a_file_in_contrib() {
    for Block { place, text, intro, .. } in all_blocks("nginx").into_iter().chain(all_blocks("conf")) {
        let (_, link) = intro.split_once("](../").unwrap_or_else(|| panic!("{place}: no link to its file: {intro}"));
        let file = read(link.split_once(')').unwrap().0);
        let code: String = file.split_inclusive('\n').skip_while(|line| line.starts_with('#')).collect();
        assert_eq!(text, code, "{place} is not what {link} has");
    }
}

#[test]
fn name_servers_accept_their_configuration() {
    for (program, arguments) in [
        ("dnsmasq", &["--test", "-C", "contrib/dns/dnsmasq.conf"][..]),
        ("unbound-checkconf", &["contrib/dns/unbound.conf"]),
    ] {
        accepts(program, arguments);
    }
    for Block { place, text, .. } in all_blocks("hosts") {
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let address = words.next().unwrap();
            assert!(address.parse::<std::net::IpAddr>().is_ok() && words.next().is_some(), "{place}: {line}");
        }
    }
}

/// Runs a program that checks a file, if the program is installed.
fn accepts(program: &str, arguments: &[&str]) {
    match Command::new(program).args(arguments).output() {
        Ok(output) => assert!(output.status.success(), "{program} {arguments:?}: {output:?}"),
        Err(error) => eprintln!("skipped: {program} {arguments:?} cannot be run ({error})"),
    }
}

#[test]
fn systemd_accepts_the_unit() {
    let unit = read("contrib/retracker.service");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("retracker.service");
    // systemd-analyze requires that the unit's program exists.
    fs::write(&path, unit.replace("/usr/local/bin/retracker", env!("CARGO_BIN_EXE_retracker"))).unwrap();
    accepts("systemd-analyze", &["verify", "--man=no", path.to_str().unwrap()]);
    accepts("systemd-analyze", &["security", "--offline=yes", "--threshold=30", path.to_str().unwrap()]);
    // The documentation describes these lines.
    for line in
        ["ExecStart=/usr/local/bin/retracker", "ExecReload=/bin/sh -c 'kill -HUP $MAINPID'", "LimitNOFILE=65536"]
    {
        assert!(unit.lines().any(|other| other == line), "{line}");
    }
}

// --- Commands -------------------------------------------------------------------------------------------------

#[test]
fn every_command_is_understood_by_its_program() {
    let mut programs = BTreeSet::new();
    for Block { place, text, .. } in all_blocks("sh") {
        for line in text.lines() {
            let line = line.split(" #").next().unwrap().trim();
            for command in line.split(" && ").filter(|command| !command.is_empty() && !command.starts_with('#')) {
                let words: Vec<_> = command.split_whitespace().skip_while(|word| is_variable(word)).collect();
                check_command(&place, command, &words);
                programs.insert(words[0].to_owned());
            }
        }
    }
    for program in ["retracker", "docker-compose", "cargo", "curl"] {
        assert!(programs.contains(program), "{programs:?}");
    }
}

/// Returns whether a word assigns a variable before a command, as in `A=b command`.
fn is_variable(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, _)| name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_'))
}

fn check_command(place: &str, command: &str, words: &[&str]) {
    let has = |path: &str, what: &str| assert!(read(path).contains(what), "{place}: {what:?} is not in {path}");
    match *words {
        ["retracker" | "target/release/retracker", ref arguments @ ..] => check_arguments(place, arguments),
        ["cargo", ref arguments @ ..] => check_cargo(place, arguments),
        // Not checked here. Other tests run the curl commands. tests/networks.sh and tests/clients.sh run nginx with
        // contrib/. The tests of torrent-cache parse its commands. The other commands
        // run neither retracker nor torrent-cache.
        ["torrent-cache", ..]
        | ["curl", "-s", _, "|", "cat", "-v"]
        | ["curl", "-s", _, "|", "jq", _]
        | ["curl", "-s", "-d" | "-T" | "-o", ..]
        | ["curl", "-s", _]
        | ["nginx", "-t"]
        | ["systemctl", "reload", "nginx"]
        | ["ss", "-ltnp" | "-lunp"]
        | ["systemctl", "status", "retracker"]
        | ["journalctl", "-u", "retracker"]
        | ["docker", "build", ..] => {}
        // The Debian package installs its examples in /etc/retracker.
        ["cp", from, _] => {
            assert!(Path::new(from.trim_start_matches("/etc/retracker/")).exists(), "{place}: {from}");
        }
        [script] if ["tests/", "contrib/", ".ci/"].iter().any(|folder| script.starts_with(folder)) => {
            let mode =
                fs::metadata(script).unwrap_or_else(|error| panic!("{place}: {script}: {error}")).permissions().mode();
            assert!(mode & 0o111 != 0, "{place}: {script} is not executable");
        }
        // tests/package.sh runs these commands.
        ["apt", subcommand, ..] => has("tests/package.sh", &format!("apt-get {subcommand} ")),
        ["groupadd" | "chgrp" | "chmod", ..] => has("tests/package.sh", command),
        // tests/balanced.sh and tests/docker.sh run these commands.
        ["docker-compose", "-f", path, ..] => has("tests/balanced.sh", &format!("docker-compose -f {path}")),
        ["docker-compose", subcommand, ..] => has("tests/docker.sh", &format!("compose {subcommand}")),
        ["docker", "run", "-p", "6880-6882:6880-6882", ..] => has("tests/docker.sh", "-p 6880-6882:6880-6882"),
        ["sed", "-i", .., "docker-compose.yml"] => check_volumes(place, command),
        ["systemctl", "enable", "--now", "retracker"] => has("contrib/retracker.service", "WantedBy="),
        ["systemctl", "restart", "retracker"] => {
            has("contrib/retracker.service", "EnvironmentFile=-/etc/retracker.env");
        }
        ["systemctl", "reload", "retracker"] => has("contrib/retracker.service", "ExecReload="),
        ["setcap", "cap_net_bind_service=+ep", path] => has("contrib/retracker.service", path),
        ["avahi-publish", "-a", "-R", _, address] => assert!(address.parse::<std::net::IpAddr>().is_ok(), "{place}"),
        _ => panic!("{place}: no test knows {command:?}"),
    }
}

/// Checks that retracker accepts these arguments, with the files that the pages show.
fn check_arguments(place: &str, arguments: &[&str]) {
    let (folder, files) = (tempfile::tempdir().unwrap(), CertificateFiles::new());
    let arguments: Vec<OsString> = arguments
        .iter()
        .map(|&argument| match argument {
            "access.yml" | "chihaya.yaml" | "config.json" | "forwarders.yml" | "zones.yml" => {
                shown_file(&folder, argument)
            }
            "debian.torrent" => torrent_file(&folder),
            "fullchain.pem" => files.chain().into(),
            "privkey.pem" => files.key().into(),
            other => other.into(),
        })
        .collect();
    let env = |name: &str| match name {
        "HOME" => Some(folder.path().into()),
        "CHIHAYA_CONFIG" if arguments == ["check"] => Some(shown_file(&folder, "chihaya.yaml")),
        _ => None,
    };
    let read = config::read(std::iter::once("retracker".into()).chain(arguments.clone()), env);
    match read {
        Ok(Task::Run(Subcommand::Healthcheck { listen })) => assert!(listen.is_ok(), "{place}: {listen:?}"),
        Ok(_) => {}
        Err(error) => panic!("{place}: {arguments:?}: {error}"),
    }
}

/// Writes the smallest torrent file, and returns its path.
fn torrent_file(folder: &TempDir) -> OsString {
    let path = folder.path().join("debian.torrent");
    fs::write(&path, "d4:infod6:pieces0:ee").unwrap();
    path.into()
}

/// Writes the first block that shows this file into the folder, and returns the path.
fn shown_file(folder: &TempDir, name: &str) -> OsString {
    let blocks = all_blocks("yaml").into_iter().chain(all_blocks("json"));
    let is_it = |block: &Block| match block.language.as_str() {
        "json" => name == "config.json",
        _ => block.text.starts_with(&format!("# {name}")),
    };
    let block = blocks.into_iter().find(is_it).unwrap();
    let path = folder.path().join(name);
    fs::write(&path, block.text).unwrap();
    path.into()
}

fn check_cargo(place: &str, arguments: &[&str]) {
    let manifest = read("Cargo.toml");
    for pair in arguments.windows(2) {
        match *pair {
            ["--bench", name] => {
                assert!(manifest.contains(&format!("[[bench]]\nname = \"{name}\"")), "{place}: {name}");
            }
            ["--test", name] => assert!(Path::new(&format!("tests/{name}")).exists(), "{place}: {name}"),
            _ => {}
        }
    }
    let known = ["build", "test", "fmt", "clippy", "bench", "install"];
    assert!(known.contains(&arguments[0]), "{place}: cargo {}", arguments[0]);
}

/// Runs and checks the command that uncomments the volumes of docker-compose.yml.
fn check_volumes(place: &str, command: &str) {
    let folder = tempfile::tempdir().unwrap();
    fs::copy("docker-compose.yml", folder.path().join("docker-compose.yml")).unwrap();
    let status = Command::new("sh").args(["-c", command]).current_dir(&folder).status().unwrap();
    let text = fs::read_to_string(folder.path().join("docker-compose.yml")).unwrap();
    let tree: serde_yaml::Value = serde_yaml::from_str(&text).unwrap();
    let volume = &tree["services"]["retracker"]["volumes"][0];
    assert!(
        status.success() && volume.as_str() == Some("./forwarders.yml:/app/forwarders.yml:ro"),
        "{place}: {volume:?}"
    );
}

/// The two announces of the quick start get the replies that it describes.
#[test]
fn the_first_announces() {
    let server = Server::start(&[]);
    let commands = all_blocks("sh").into_iter().find(|block| block.text.starts_with("curl")).unwrap().text;
    let mut replies = commands.lines().map(|line| {
        let target = line.split('\'').nth(1).unwrap().strip_prefix("http://127.0.0.1:8080").unwrap();
        server.get(target).text()
    });
    for part in ["5:peers0:", "5:peers6:"] {
        assert!(read("README.md").contains(&format!("`{part}`")));
        let reply = replies.next().unwrap();
        assert!(reply.contains(part), "{reply}");
    }
}

/// The commands of docs/torrent-cache.md print what the page shows. Generations and info-hashes may differ.
#[test]
fn the_walk_through_of_shared_blobs() {
    let page = read("docs/torrent-cache.md");
    let block = |marker: &str, language: &str| {
        let (_, rest) = page.split_once(&format!("<!-- {marker} -->\n```{language}\n")).unwrap();
        rest.split_once("```").unwrap().0.to_owned()
    };
    let server = Server::start(&["--torrents", "--torrents-listen=127.0.0.1:0"]);
    let folder = tempfile::tempdir().unwrap();
    let parts = MetainfoParts {
        name: "blob".to_owned(),
        length: 1,
        piece_length: MIN_PIECE_LENGTH,
        piece_hashes: vec![[0; 20]],
        private: false,
        source: None,
    };
    fs::write(folder.path().join("blob.torrent"), Metainfo::new(parts).unwrap().encode()).unwrap();
    let script = block("walk-through", "sh").replace("127.0.0.1:2378", &server.torrents_addresses()[0]);
    let output = Command::new("sh").args(["-ec", &script]).current_dir(&folder).output().unwrap();
    if output.status.code() == Some(127) {
        return eprintln!("skipped: curl cannot be run");
    }
    assert!(output.status.success(), "{output:?}");
    let without_numbers = |text: &str| {
        let values = |line: &str| {
            let mut value: BTreeMap<String, serde_json::Value> = serde_json::from_str(line).unwrap();
            for key in ["generation", "info_hash"] {
                value.entry(key.to_owned()).and_modify(|value| *value = serde_json::Value::Null);
            }
            value
        };
        text.lines().map(values).collect::<Vec<_>>()
    };
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(without_numbers(&printed), without_numbers(&block("walk-through: output", "text")));
    let [blob, copy] = ["blob.torrent", "copy.torrent"].map(|name| fs::read(folder.path().join(name)).unwrap());
    assert_eq!(blob, copy);
}

// --- Metrics --------------------------------------------------------------------------------------------------

#[test]
fn the_metrics_page_names_every_metric_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("forwarders.yml");
    fs::write(&path, "- uri: http://127.0.0.1:1/announce\n").unwrap();
    let access = folder.path().join("access.yml");
    fs::write(&access, "networks: {deny: 10.0.0.0/8}\n").unwrap();
    let zones = folder.path().join("zones.yml");
    fs::write(&zones, "- {name: office, networks: [10.0.0.0/8]}\n").unwrap();
    let [forwarders, access, zones] = [&path, &access, &zones].map(|path| path.to_str().unwrap());
    let server = Server::start(&[
        "-p",
        "-f",
        forwarders,
        "--access",
        access,
        "--zones",
        zones,
        "--torrents",
        "--torrents-listen=127.0.0.1:0",
        "--share=redis+unix:///nowhere/socket",
    ]);
    // Some metrics exist only after an exchange. The forwarder refuses the connection, and there is no Redis.
    server.announce(&announce("t", "a"));
    server.logged("share: alone: ");
    let text = String::from_utf8(server.get("/metrics").body).unwrap();
    let exposed: BTreeSet<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .filter(|name| !name.starts_with("process_"))
        .map(str::to_owned)
        .collect();
    let page = read("docs/metrics.md");
    let shown: BTreeSet<_> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once(" | "))
        .flat_map(|(names, _)| names.split('`').step_by(2))
        .filter(|name| !name.starts_with("process_"))
        .map(str::to_owned)
        .collect();
    assert_eq!(shown, exposed);
    for Block { place, text, .. } in all_blocks("promql") {
        for name in
            text.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|word| word.starts_with("retracker_"))
        {
            assert!(exposed.contains(name.trim_end_matches("_bucket")), "{place}: {name}");
        }
    }
}

#[test]
fn the_table_of_forwarders_has_every_key() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("forwarders.yml");
    fs::write(&path, "- uri: http://127.0.0.1/announce\n  no-such-key: 1\n").unwrap();
    let exit = retracker(&["check", "--offline", "-f", path.to_str().unwrap()]).run();
    let (_, known) = exit.stderr[0].split_once("expected one of ").unwrap();
    let page = read("docs/forwarding.md");
    let rows = page.lines().filter(|line| line.starts_with("| `")).filter_map(|line| line.split(" | ").next());
    let shown: BTreeSet<_> = rows.flat_map(|names| names.split('`').skip(1).step_by(2)).collect();
    assert_eq!(shown, known.split('`').skip(1).step_by(2).collect());
}

// --- Sections, links, versions --------------------------------------------------------------------------------

/// The tests of the protocol are named after the sections of docs/protocol.md.
#[test]
fn every_section_of_the_protocol_has_tests_and_every_test_number_a_section() {
    let page = read("docs/protocol.md");
    let sections: BTreeSet<_> =
        page.lines().filter_map(|line| line.strip_prefix("### ")?.split(' ').next()).map(str::to_owned).collect();
    let tested: BTreeSet<_> = ["tests/it", "tests/it/upstream"]
        .into_iter()
        .flat_map(files)
        .filter(|path| path.is_file())
        .flat_map(|path| fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect::<Vec<_>>())
        .filter_map(|line| {
            let mut parts = line.strip_prefix("fn s")?.split('_');
            let (section, subsection) = (parts.next()?, parts.next()?);
            let numbers = section.parse::<u8>().is_ok() && subsection.parse::<u8>().is_ok();
            numbers.then(|| format!("{section}.{subsection}"))
        })
        .collect();
    assert_eq!(sections, tested);
}

#[test]
fn every_link_has_a_file_and_a_heading() {
    let mut checked = 0;
    for Page { path, text } in pages() {
        for link in links(&text).into_iter().filter(|link| !link.contains("://")) {
            let (file, anchor) = link.split_once('#').map_or((link, None), |(file, anchor)| (file, Some(anchor)));
            let target = if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
            assert!(target.exists(), "{}: {link}", path.display());
            if let Some(anchor) = anchor {
                let anchors = anchors(&fs::read_to_string(&target).unwrap());
                assert!(anchors.contains(anchor), "{}: {link}; there are {anchors:?}", path.display());
            }
            checked += 1;
        }
    }
    assert!(checked > 50, "{checked}");
}

/// Returns the targets of a page's links.
fn links(text: &str) -> Vec<&str> {
    text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link).collect()
}

/// Returns the anchors of a page's headings, as GitHub and similar sites make them.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut in_block = false;
    let headings = text.lines().filter(|line| {
        in_block ^= line.starts_with("```");
        !in_block && line.starts_with('#')
    });
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    headings
        .map(|heading| {
            let kept = heading.trim_start_matches('#').trim().to_lowercase();
            let kept = kept.chars().filter(|c| c.is_alphanumeric() || "-_ ".contains(*c)).collect::<String>();
            let anchor = kept.replace(' ', "-");
            let count = seen.entry(anchor.clone()).or_default();
            *count += 1;
            if *count == 1 { anchor } else { format!("{anchor}-{}", *count - 1) }
        })
        .collect()
}

/// The program names pages in its log, its help and its settings files.
#[test]
fn pages_that_the_program_names_exist() {
    let mut paths: Vec<_> =
        [".env.example", "docker-compose.yml", "Dockerfile", "forwarders.example.yml", "access.example.yml"]
            .map(PathBuf::from)
            .into();
    paths.extend(["src", "contrib"].into_iter().flat_map(files_below));
    let mut found = 0;
    for path in paths {
        let text = fs::read_to_string(&path).unwrap_or_default();
        for rest in text.split("docs/").skip(1) {
            let Some((name, _)) = rest.split_once(".md") else { continue };
            if name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-') {
                assert!(Path::new(&format!("docs/{name}.md")).exists(), "{}: docs/{name}.md", path.display());
                found += 1;
            }
        }
    }
    assert!(found >= 5, "{found}");
}

fn files_below(folder: impl AsRef<Path>) -> Vec<PathBuf> {
    let (folders, mut found): (Vec<_>, Vec<_>) = files(folder).into_iter().partition(|path| path.is_dir());
    found.extend(folders.iter().flat_map(files_below));
    found
}

/// The pages name files in backticks. The path of a file starts at the root of the repository or at `src/`.
#[test]
fn files_that_pages_name_exist() {
    let mut checked = 0;
    for Page { path, text } in pages() {
        let mut in_block = false;
        let lines = text.lines().filter(|line| {
            in_block ^= line.starts_with("```");
            !in_block
        });
        for code in lines.flat_map(|line| line.split('`').skip(1).step_by(2)) {
            let is_file = Path::new(code).extension().is_some_and(|extension| extension == "rs")
                || code.starts_with("src/")
                || code.starts_with("tests/");
            if is_file && !code.contains([' ', '*']) {
                let found = ["", "src"].iter().any(|root| Path::new(root).join(code).exists());
                assert!(found, "{}: {code}", path.display());
                checked += 1;
            }
        }
    }
    assert!(checked > 30, "{checked}");
}

/// The map of docs/architecture.md names only what exists, and all of `src/`. A line has names, two spaces and a
/// purpose. An indented line is inside the folder of the last line that is less indented.
#[test]
fn the_map_is_the_tree() {
    let mut folders: Vec<PathBuf> = Vec::new();
    let mut shown = BTreeSet::new();
    for Block { place, text, .. } in all_blocks("text") {
        if !place.starts_with("docs/architecture.md") {
            continue;
        }
        for line in text.lines() {
            let depth = line.len() - line.trim_start().len();
            let names = line.trim_start().split("  ").next().unwrap();
            folders.truncate(depth / 2);
            let parent = folders.last().cloned().unwrap_or_default();
            for name in names.split(", ").filter(|name| !name.contains('*')) {
                assert!(parent.join(name).exists(), "{place}: {}", parent.join(name).display());
                shown.insert(parent.join(name).with_extension(""));
            }
            folders.push(parent.join(names.split(", ").next().unwrap()));
        }
    }
    for path in files("src") {
        assert!(
            shown.contains(&path.with_extension("")),
            "{} is not on the map of docs/architecture.md",
            path.display()
        );
    }
}

#[test]
fn diagrams_are_closed() {
    for Block { place, text, .. } in all_blocks("mermaid") {
        assert!(text.starts_with("flowchart "), "{place}");
        for (open, close) in [('[', ']'), ('(', ')'), ('|', '|')] {
            let count = |sign| text.matches(sign).count();
            assert!(if open == close { count(open) % 2 == 0 } else { count(open) == count(close) }, "{place}: {open}");
        }
        let lines = |word: &str| text.lines().filter(|line| line.trim().split(' ').next() == Some(word)).count();
        assert_eq!(lines("subgraph"), lines("end"), "{place}");
    }
}

/// The images, the workflows and the README must have the `rust-version` of `Cargo.toml`.
#[test]
fn the_lowest_rust_version_is_the_same_everywhere() {
    let manifest = read("Cargo.toml");
    let version = manifest.lines().find_map(|line| line.strip_prefix("rust-version = \"")?.strip_suffix('"')).unwrap();
    for (path, text) in [
        ("Dockerfile", format!("FROM rust:{version}-slim-bookworm AS build\n")),
        (".github/workflows/ci.yml", format!("image: rust:{version}-bookworm\n")),
        (".github/workflows/release.yml", format!("image: rust:{version}-bookworm\n")),
        ("README.md", format!("Rust {version} or newer")),
    ] {
        assert!(read(path).contains(&text), "{path} does not say {text:?}");
    }
}

#[test]
fn workflow_files_are_yaml_and_call_ci_run() {
    for path in files(".github/workflows").into_iter().chain(files(".github/ISSUE_TEMPLATE")) {
        let text = fs::read_to_string(&path).unwrap();
        let tree: Result<serde_yaml::Value, _> = serde_yaml::from_str(&text);
        assert!(tree.is_ok(), "{}: {tree:?}", path.display());
    }
    let workflow: serde_yaml::Value = serde_yaml::from_str(&read(".github/workflows/ci.yml")).unwrap();
    let steps = workflow["jobs"]["gate"]["steps"].as_sequence().unwrap();
    assert!(steps.iter().any(|step| step["run"].as_str() == Some(".ci/run")), "{steps:?}");
}

/// This test only compares names. tests/package.sh runs the script with the same subcommands.
#[test]
fn the_release_workflow_calls_what_the_release_script_knows() {
    let workflow: serde_yaml::Value = serde_yaml::from_str(&read(".github/workflows/release.yml")).unwrap();
    let jobs = workflow["jobs"].as_mapping().unwrap();
    let steps = jobs.values().flat_map(|job| job["steps"].as_sequence().unwrap());
    let called: BTreeSet<_> = steps
        .filter_map(|step| step["run"].as_str()?.strip_prefix("contrib/release/build.sh "))
        .map(|arguments| arguments.split(' ').next().unwrap())
        .collect();
    assert_eq!(called, BTreeSet::from(["check", "checksums", "image", "notes", "packages"]));
    for subcommand in called {
        assert!(read("contrib/release/build.sh").contains(&format!("build.sh {subcommand} ")), "{subcommand}");
    }
}

#[test]
fn the_readme_s_settings_are_those_of_the_configuration_page() {
    let (readme, page) = (read("README.md"), read("docs/configuration.md"));
    let rows: Vec<_> = readme.lines().filter(|line| line.starts_with("| `-")).collect();
    assert!((10..=14).contains(&rows.len()), "{}", rows.len());
    for row in rows {
        let cells: Vec<_> = row.split(" | ").map(|cell| cell.trim_matches(['|', ' '])).collect();
        let [flag, variable, _, default] = cells[..] else { panic!("{row}") };
        let found = page.lines().find(|line| line.contains(&format!("| {variable} |")));
        let found = found.unwrap_or_else(|| panic!("{variable} is not on the configuration page"));
        assert!(found.contains(flag), "{flag}: {found}");
        assert!(!default.starts_with('`') || found.ends_with(&format!("| {default} |")), "{default}: {found}");
    }
}
