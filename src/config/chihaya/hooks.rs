//! The hooks of v2: rules that Chihaya applies before it replies.

use std::collections::BTreeSet;
use std::time::Duration;

use super::keys::Keys;
use super::known;
use super::lint::{Lint, Outcome};
use super::model::{Approval, TokenRule};
use super::outcomes;
use super::scalars::{self, Parsed, switch, text, texts, whole};
use super::tree::{ConfigNode, KeyedNode, NodeValue, Place};
use crate::tracker::IntervalVariation;
use tracker_protocol::InfoHash;

const JWT: &str = "jwt";
const CLIENTS: &str = "client approval";
const TORRENTS: &str = "torrent approval";
const VARIATION: &str = "interval variation";
const NAMES: [&str; 4] = [JWT, CLIENTS, TORRENTS, VARIATION];

#[derive(Debug, Default)]
pub(super) struct PreHooks {
    pub(super) tokens: Option<TokenRule>,
    pub(super) clients: Option<Approval<[u8; 6]>>,
    pub(super) torrents: Option<Approval<InfoHash>>,
    pub(super) interval_variation: Option<IntervalVariation>,
}

/// Reads the hooks that run before the reply. `is_rc1` says that the file has the form of v2.0.0-rc.1, which knows only
/// two hooks.
pub(super) fn read(keys: &mut Keys<'_>, lint: &mut Lint, is_rc1: bool) -> PreHooks {
    let mut hooks = PreHooks::default();
    let mut seen = Vec::new();
    for (path, place, entries) in list(keys, lint, "prehooks") {
        let mut keys = Keys::new(path, entries).restricting();
        let Some(name) = keys.read(lint, "name", known_name, |name| named(name, is_rc1)) else {
            keys.require(lint, &["name"], place);
            continue;
        };
        if seen.contains(&name) {
            lint.error(place, format!("the hook {name} is there twice, expected one of them"));
            continue;
        }
        seen.push(name);
        options(&mut keys, lint, name, place, &mut hooks);
        keys.finish(lint);
    }
    hooks
}

/// Reads the hooks that run after the reply. No such hook of Chihaya ever did anything.
pub(super) fn read_post(keys: &mut Keys<'_>, lint: &mut Lint) {
    for (path, place, entries) in list(keys, lint, "posthooks") {
        let name = entries.iter().find(|entry| entry.key == "name").and_then(|entry| text(&entry.value).ok());
        match name.as_deref().and_then(|name| known::nearest(name, &NAMES)) {
            Some(name) if name != VARIATION => {
                let text =
                    format!("{path}name: {name} comes after the reply and refuses nobody; it belongs below prehooks");
                lint.lets(place, text);
            }
            _ => lint.warns(
                place,
                format!(
                    "{path}name: {} means nothing: no hook after the reply does anything",
                    name.unwrap_or_default().escape_debug()
                ),
            ),
        }
    }
}

type Hook<'a> = (String, Place, &'a [KeyedNode]);

fn list<'a>(keys: &mut Keys<'a>, lint: &mut Lint, key: &'static str) -> Vec<Hook<'a>> {
    let Some(entry) = keys.take(lint, key) else { return Vec::new() };
    let name = keys.name(key);
    let expected = "a list of hooks, each with a name";
    let NodeValue::List(items) = &entry.value.value else {
        lint.expected(&name, &entry.value, expected);
        return Vec::new();
    };
    let hook = |(n, item): (usize, &'a ConfigNode)| {
        if let NodeValue::Section(entries) = &item.value {
            return Some((format!("{name}[{n}]."), item.place, entries.as_slice()));
        }
        lint.expected(&format!("{name}[{n}]"), item, "a hook with a name");
        None
    };
    items.iter().enumerate().filter_map(hook).collect()
}

fn known_name(node: &ConfigNode) -> Parsed<&'static str> {
    let expected = "jwt, client approval, torrent approval or interval variation";
    let name = text(node).map_err(|_| expected)?;
    if let Some(known) = NAMES.iter().find(|known| **known == name) {
        return Ok(known);
    }
    Err(match known::nearest(&name, &NAMES) {
        Some(JWT) => "jwt, because an unknown hook may be a misspelt one that restricts access",
        Some(CLIENTS) => "client approval, because an unknown hook may be a misspelt one that restricts access",
        Some(TORRENTS) => "torrent approval, because an unknown hook may be a misspelt one that restricts access",
        Some(_) => "interval variation, because an unknown hook may be a misspelt one that restricts access",
        None => expected,
    })
}

fn named(name: &str, is_rc1: bool) -> Outcome {
    let outcome = match name {
        JWT => Outcome::Becomes("a client needs a token for its torrent".to_owned()),
        CLIENTS => Outcome::Becomes("only approved clients may announce".to_owned()),
        TORRENTS => Outcome::Becomes("only approved torrents may be announced".to_owned()),
        _ => Outcome::Becomes("some replies get a longer interval".to_owned()),
    };
    match outcome {
        Outcome::Becomes(text) if is_rc1 && ![JWT, CLIENTS].contains(&name) => {
            Outcome::Becomes(format!("{text}, although v2.0.0-rc.1 does not know the hook"))
        }
        outcome => outcome,
    }
}

/// Reads the options of a hook: below `config` in rc.1 and rc.2, below `options` in newer versions.
fn options(keys: &mut Keys<'_>, lint: &mut Lint, name: &'static str, place: Place, hooks: &mut PreHooks) {
    let old = keys.section(lint, "config");
    let new = keys.section(lint, "options");
    let is_new = new.is_some();
    if let (Some((_, old)), Some(_)) = (&old, &new) {
        lint.error(old.place, format!("{} is beside options, expected one of them", keys.name("config")));
        return;
    }
    let Some((options, _)) = new.or(old) else {
        lint.error(place, format!("the hook {name} has no options, expected those of {name}"));
        return;
    };
    let mut options = options.restricting();
    match name {
        JWT => hooks.tokens = tokens(&mut options, lint, place),
        CLIENTS => {
            let parse = |node: &ConfigNode| scalars::client_ids(&texts(node)?);
            hooks.clients = approval(&mut options, lint, place, parse, is_new);
        }
        TORRENTS => {
            let parse = |node: &ConfigNode| scalars::info_hashes(&texts(node)?);
            hooks.torrents = approval(&mut options, lint, place, parse, is_new);
        }
        _ => hooks.interval_variation = variation(&mut options, lint, place),
    }
    options.finish(lint);
}

fn tokens(keys: &mut Keys<'_>, lint: &mut Lint, place: Place) -> Option<TokenRule> {
    let issuer = keys.read(lint, "issuer", text, |text| outcomes::issuer(text));
    let audience = keys.read(lint, "audience", text, |text| outcomes::audience(text));
    let parse = |node: &ConfigNode| scalars::key_set_url(&text(node)?);
    let set = keys.read(lint, "jwk_set_url", parse, |set| outcomes::key_set(set, ""));
    let refresh = keys.read(lint, "jwk_set_update_interval", scalars::duration, |refresh| outcomes::refresh(*refresh));
    keys.require(lint, &["issuer", "audience", "jwk_set_url"], place);
    let refresh = refresh.flatten().unwrap_or(Duration::from_mins(5));
    Some(TokenRule { keys: set?, issuer: Some(issuer?), audience: audience?, refresh })
}

fn approval<T: Ord + Clone>(
    keys: &mut Keys<'_>,
    lint: &mut Lint,
    place: Place,
    parse: impl Fn(&ConfigNode) -> Parsed<BTreeSet<T>>,
    is_new: bool,
) -> Option<Approval<T>> {
    let allow = keys.read(lint, "whitelist", &parse, |list| Outcome::Becomes(format!("approved: {}", list.len())));
    let deny = keys.read(lint, "blacklist", &parse, |list| Outcome::Becomes(format!("refused: {}", list.len())));
    let (allow, deny) = (allow.unwrap_or_default(), deny.unwrap_or_default());
    match (allow.is_empty(), deny.is_empty()) {
        (true, true) => {
            lint.warns(place, "both lists of the hook are empty or absent, so it refuses nobody".to_owned());
            None
        }
        (false, false) if is_new => {
            lint.error(place, "the hook has both whitelist and blacklist, expected one of them".to_owned());
            None
        }
        // Older versions take both lists. They approve what is whitelisted and not blacklisted.
        (false, _) => Some(Approval::Allow(allow.difference(&deny).cloned().collect())),
        (true, false) => Some(Approval::Deny(deny)),
    }
}

fn variation(keys: &mut Keys<'_>, lint: &mut Lint, place: Place) -> Option<IntervalVariation> {
    let parse = |node: &ConfigNode| {
        let expected = "a number above 0 and up to 1, such as 0.2";
        let number = scalars::number(node).map_err(|_| expected)?;
        #[expect(clippy::cast_possible_truncation, reason = "it is between 0 and 1")]
        let number = number as f32;
        if number > 0.0 && number <= 1.0 { Ok(number) } else { Err(expected) }
    };
    let probability = keys.read(lint, "modify_response_probability", parse, |part| {
        Outcome::Becomes(format!("this part of the replies: {part}"))
    });
    let parse = |node: &ConfigNode| {
        let expected = "a whole number of seconds from 1 to 86400, such as 60";
        let number = u32::try_from(whole(node).map_err(|_| expected)?).map_err(|_| expected)?;
        if (1..=86_400).contains(&number) { Ok(number) } else { Err(expected) }
    };
    let max_increase =
        keys.read(lint, "max_increase_delta", parse, |most| Outcome::Becomes(format!("1 to {most} s are added")));
    let min_too = keys.read(lint, "modify_min_interval", switch, |is_so| {
        Outcome::Becomes(
            if *is_so { "the minimal interval grows too" } else { "the minimal interval stays" }.to_owned(),
        )
    });
    keys.require(lint, &["modify_response_probability", "max_increase_delta"], place);
    Some(IntervalVariation {
        probability: probability?,
        max_increase: max_increase?,
        min_interval_too: min_too.unwrap_or(false),
    })
}
