//! The features that files of Chihaya ask for, and which of them this tracker has. The linter warns at each key that needs a
//! missing one.

/// Something that the tracker can do, or will be able to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Feature {
    /// `retracker --chihaya FILE` serves.
    Serving,
    Tokens,
    ClientLists,
    TorrentLists,
    /// Only torrents that were added through the API may be announced.
    PutTorrents,
    Tls,
    MetricsListener,
    Api,
    MinInterval,
    NumWant,
    ScrapeLimit,
    Routes,
    Timeouts,
    KeepAlive,
    UdpKey,
    AddressFamily,
    IntervalVariation,
}

/// One line of the table.
pub(super) struct FeatureState {
    /// Whether the tracker has the feature, so that the file's keys for it are in force.
    pub(super) has_arrived: bool,
    /// Whether clients that Chihaya would refuse may announce as long as the feature is missing.
    pub(super) restricts: bool,
    /// What the tracker does as long as the feature is missing.
    pub(super) meanwhile: &'static str,
}

impl Feature {
    /// The table. A feature that arrives becomes `true` here, and nothing else in the linter changes.
    pub(super) const fn state(self) -> FeatureState {
        let (has_arrived, restricts, meanwhile) = match self {
            Self::Serving => (true, false, "this version checks the file and does not serve with it yet"),
            Self::Tokens => (true, true, "tokens are not checked yet, and every client is let in"),
            Self::ClientLists => (true, true, "no client is refused for its peer id yet"),
            Self::TorrentLists => (true, true, "no torrent is refused yet"),
            Self::PutTorrents => (true, true, "any torrent may be announced so far"),
            Self::Tls => (true, false, "nothing listens for https here, expected a proxy that ends TLS"),
            Self::MetricsListener => (true, false, "metrics are served at the tracker's own address, with -p"),
            Self::Api => (true, false, "there is no such API so far"),
            Self::MinInterval => (true, false, "clients get the interval as the minimal one too"),
            Self::NumWant => (true, false, "a reply has 50 peers by default and 200 at most"),
            Self::ScrapeLimit => (true, false, "the tracker's own limit counts"),
            Self::Routes => (true, false, "announces are served at /announce and /announce.php, scrapes beside them"),
            Self::Timeouts => (false, false, "the tracker's own timeouts count"),
            Self::KeepAlive => (false, false, "a connection may carry any number of requests"),
            Self::UdpKey => (false, false, "each process makes connection ids with a key of its own"),
            Self::AddressFamily => (false, false, "clients get peers of both families"),
            Self::IntervalVariation => (true, false, "all clients get the same interval"),
        };
        FeatureState { has_arrived, restricts, meanwhile }
    }
}
