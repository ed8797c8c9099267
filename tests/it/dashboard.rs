//! `contrib/grafana/`: the dashboard and the alert rules name only metrics that exist, and only labels and values that
//! are in docs/metrics.md.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;

use serde_json::Value;
use tempfile::NamedTempFile;

use crate::dsl::{announce, eventually, retracker};
use crate::issuer::{KeyServer, SigningKey, hex};

const DASHBOARD: &str = "contrib/grafana/retracker.json";
const ALERTS: &str = "contrib/grafana/alerts.yml";

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn dashboard() -> Value {
    serde_json::from_str(&read(DASHBOARD)).unwrap()
}

fn alerts() -> Vec<serde_yaml::Value> {
    let tree: serde_yaml::Value = serde_yaml::from_str(&read(ALERTS)).unwrap();
    let groups = tree["groups"].as_sequence().unwrap();
    groups.iter().flat_map(|group| group["rules"].as_sequence().unwrap().clone()).collect()
}

/// Returns every query, with the name of its panel or alert rule.
fn queries() -> Vec<(String, String)> {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().unwrap();
    let of_panels = panels.iter().flat_map(|panel| {
        let targets = panel["targets"].as_array().cloned().unwrap_or_default();
        targets.into_iter().map(|target| (panel["title"].to_string(), target["expr"].as_str().unwrap().to_owned()))
    });
    let text = |value: &serde_yaml::Value| value.as_str().unwrap().to_owned();
    let of_rules = alerts().into_iter().map(|rule| (text(&rule["alert"]), text(&rule["expr"])));
    of_panels.chain(of_rules).collect()
}

/// Returns the words of a text that may be names of metrics.
fn metrics(text: &str) -> BTreeSet<&str> {
    let words = text.split(|sign: char| !(sign.is_ascii_alphanumeric() || sign == '_'));
    words.filter(|word| word.starts_with("retracker_") || word.starts_with("process_")).collect()
}

/// The metrics of a server that has all of them, because it has a forwarder, UDP clients, access rules with tokens and
/// other instances.
fn all_metrics() -> String {
    let key = SigningKey::p256("key");
    let keys = KeyServer::start(Some(&[&key]));
    let file = |text: String| {
        let mut file = NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    };
    // If torrents need tokens, a torrent is announced only to forwarders whose `only` names the torrent.
    let forwarders = file(format!("- uri: http://127.0.0.1:1/announce\n  only: [{}]\n", hex("t")));
    let access = file(keys.rules());
    let [access, forwarders] = [&access, &forwarders].map(|file| file.path().to_str().unwrap());
    let setup = retracker(&["-p", "-f", forwarders, "--access", access]).env("UDP_LISTEN_ADDR", "127.0.0.1:0");
    let setup = setup.env("SHARE_URL", "redis+unix:///nowhere/socket");
    let server = setup.start();
    server.logged("jwt keys of http://");
    server.announce(&announce("t", "a").with("jwt", key.token("t")));
    // The exchange is counted when it ends, which may be after the client's reply.
    eventually("the exchange is counted", || {
        let text = String::from_utf8(server.get("/metrics").body).unwrap();
        text.contains("\nretracker_forward_exchanges_total{").then_some(text)
    })
}

#[test]
fn every_metric_of_the_dashboard_and_the_alerts_exists() {
    let exposed = all_metrics();
    let families: BTreeMap<_, _> =
        exposed.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
    let parts = |name, parts: &'static [&str]| parts.iter().map(move |part| format!("{name}{part}"));
    let names: BTreeSet<_> = families
        .iter()
        .flat_map(|(name, kind)| match *kind {
            "histogram" => parts(name, &["_bucket", "_sum", "_count"]),
            _ => parts(name, &[""]),
        })
        .collect();
    let (dashboard, alerts) = (read(DASHBOARD), read(ALERTS));
    for (file, text) in [(DASHBOARD, &dashboard), (ALERTS, &alerts)] {
        let used = metrics(text);
        let unknown: Vec<_> = used.iter().filter(|name| !names.contains(**name)).collect();
        assert!(unknown.is_empty(), "{file}: {unknown:?} are not among {names:?}");
        assert!(used.len() >= 8, "{file}: {used:?}");
    }
}

/// Labels that Prometheus adds.
const OF_PROMETHEUS: [&str; 2] = ["instance", "job"];

#[test]
fn every_label_and_value_in_a_query_is_on_the_metrics_page() {
    let page = read("docs/metrics.md");
    // Returns the words in backticks in a metric's row: its name, its labels and their values.
    let row = |name: &str| -> Option<Vec<&str>> {
        let name = name.trim_end_matches("_bucket");
        let row = page.lines().find(|line| line.starts_with("| `") && line.contains(&format!("`{name}`")))?;
        Some(row.split('`').skip(1).step_by(2).collect())
    };
    let mut checked = 0;
    for (place, query) in queries() {
        for (before, matchers) in query.split('}').filter_map(|part| part.rsplit_once('{')) {
            let name = before.rsplit(|sign: char| !(sign.is_ascii_alphanumeric() || sign == '_')).next().unwrap();
            for matcher in matchers.split(',').map(str::trim) {
                let (label, value) = matcher.split_once(['=', '!']).unwrap();
                if OF_PROMETHEUS.contains(&label) {
                    continue;
                }
                let words = row(name).unwrap_or_else(|| panic!("{place}: {name} is not on the page"));
                let values = value.trim_matches(['=', '~', '"']).split('|');
                let missing: Vec<_> =
                    std::iter::once(label).chain(values).filter(|word| !words.contains(word)).collect();
                assert!(missing.is_empty(), "{place}: {missing:?} are not in the row of {name}: {words:?}");
                checked += 1;
            }
        }
        for list in query.split("by (").skip(1).map(|rest| rest.split_once(')').unwrap().0) {
            for label in list.split(", ").filter(|label| !OF_PROMETHEUS.contains(label) && *label != "le") {
                let has_it = |name: &&str| row(name).is_some_and(|words| words.contains(&label));
                assert!(metrics(&query).iter().any(has_it), "{place}: {label} is a label of no metric in {query}");
                checked += 1;
            }
        }
    }
    assert!(checked >= 15, "{checked}");
}

#[test]
fn the_dashboard_fits_any_grafana() {
    let dashboard = dashboard();
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    let source = variables.iter().find(|variable| variable["type"] == "datasource").unwrap();
    assert_eq!((&source["name"], &source["query"]), (&"datasource".into(), &"prometheus".into()));
    // Each Grafana gives a dashboard ids of its own, so the file must have none.
    assert!(dashboard["id"].is_null() && dashboard["uid"].is_null());
    let text = read(DASHBOARD);
    assert_eq!(text.matches("\"uid\"").count(), text.matches("\"uid\": \"${datasource}\"").count());
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len());
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        let title = &panel["title"];
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        assert!(panel["description"].as_str().is_some_and(|text| text.ends_with('.')), "{title}");
    }
}

#[test]
fn every_alert_says_what_happened_and_what_to_do() {
    let alerts = alerts();
    for alert in &alerts {
        let name = alert["alert"].as_str().unwrap();
        let annotation = |name: &str| alert["annotations"][name].as_str().unwrap_or_default();
        assert!(name.starts_with("Retracker"), "{name}");
        assert!(["warning", "critical"].contains(&alert["labels"]["severity"].as_str().unwrap()), "{name}");
        assert!(annotation("summary").contains("{{ $labels.instance }}"), "{name}");
        assert!(annotation("remedy").ends_with('.'), "{name}");
    }
    assert!(alerts.len() >= 8, "{}", alerts.len());
    let tests = read("tests/alerts_test.yml");
    for alert in &alerts {
        let name = alert["alert"].as_str().unwrap();
        assert!(tests.contains(name), "tests/alerts_test.yml does not test {name}");
    }
}

#[test]
fn the_metrics_page_lists_every_alert() {
    let page = read("docs/metrics.md");
    let listed: BTreeSet<_> = page.split('`').filter(|word| word.starts_with("Retracker")).collect();
    let alerts = alerts();
    assert_eq!(listed, alerts.iter().map(|alert| alert["alert"].as_str().unwrap()).collect());
}
