//! The access rules of a Chihaya file.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use ::settings::Origin;

use super::ChihayaFile;
use super::model::{Approval, ChihayaConfig, ChihayaGeneration, KeySetUrl, TokenRule};
use crate::access::{
    AccessOptions, ClientPrefix, Issuers, JwtOptions, KeySource, ListRule, RefusalWording, Registered,
};
use crate::config::error::ConfigError;
use crate::config::settings::CHIHAYA;

/// The access rules of a file.
#[derive(Clone, Debug)]
pub struct ChihayaRules {
    /// The flag or variable that named the file.
    origin: Origin,
    path: PathBuf,
    /// The torrents and clients that the API has added. Reading the file again keeps them.
    registered: Option<Arc<Registered>>,
}

impl ChihayaRules {
    pub(super) fn of(file: &ChihayaFile, registered: Option<Arc<Registered>>) -> Self {
        Self { origin: file.origin, path: file.path.clone(), registered }
    }

    /// Reads the file again and checks it.
    pub(in crate::config) fn read(&self) -> Result<AccessOptions, ConfigError> {
        // The variables in the path were already replaced at the start.
        let file = ChihayaFile::read(self.origin, &self.path, CHIHAYA.expected, |_| None)?;
        file.checked().map(|chihaya| access(chihaya, self.registered.as_ref()))
    }
}

impl fmt::Display for ChihayaRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the access rules of {}; its other keys take effect only at a restart", self.path.display())
    }
}

pub(super) fn access(chihaya: &ChihayaConfig, registered: Option<&Arc<Registered>>) -> AccessOptions {
    let ChihayaConfig { generation, tokens, clients, torrents, .. } = chihaya;
    // If there is an API, `registered` holds the list of clients instead, because the API changes that list.
    let clients = clients.as_ref().filter(|_| registered.is_none());
    AccessOptions {
        networks: None,
        clients: clients.map(|approval| rule(approval, |id| ClientPrefix::new(*id))),
        torrents: torrents.as_ref().map(|approval| rule(approval, |hash| *hash)),
        jwt: tokens.as_ref().map(jwt),
        registered: registered.cloned(),
        wording: match generation {
            ChihayaGeneration::V1 => RefusalWording::ChihayaV1,
            ChihayaGeneration::V2Rc1 | ChihayaGeneration::V2 => RefusalWording::ChihayaV2,
        },
    }
}

fn rule<T, U, S: FromIterator<U>>(approval: &Approval<T>, entry: impl Fn(&T) -> U) -> ListRule<S> {
    match approval {
        Approval::Allow(listed) => ListRule::Allow(listed.iter().map(entry).collect()),
        Approval::Deny(listed) => ListRule::Deny(listed.iter().map(entry).collect()),
    }
}

fn jwt(tokens: &TokenRule) -> JwtOptions {
    let TokenRule { keys, issuer, audience, refresh } = tokens;
    JwtOptions {
        keys: match keys {
            KeySetUrl::Url(url) => KeySource::Url(url.clone()),
            KeySetUrl::Placeholder(text) => KeySource::Placeholder(text.clone()),
        },
        ca: None,
        issuers: issuer.clone().map_or(Issuers::OfKeySet, |issuer| Issuers::Listed(vec![issuer])),
        audiences: vec![audience.clone()],
        refresh: *refresh,
        protect_scrape: false,
        require_expiry: false,
    }
}
