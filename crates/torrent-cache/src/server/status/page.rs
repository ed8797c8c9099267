//! The status page.

use std::fmt::{self, Write as _};

use super::view::{CacheStatus, SharingStatus};
use crate::flight::FlightSummary;
use crate::sharing::TrackerHealth;

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
/// The most transfers that the page shows. The JSON lists all of them.
const MAX_SHOWN: usize = 100;

/// Writes the page.
pub(super) fn html(status: &CacheStatus) -> String {
    let host = rustix::system::uname();
    let host = Escaped(&host.nodename().to_string_lossy()).to_string();
    let parts = [
        ("{style}", STYLE.to_owned()),
        ("{version}", env!("CARGO_PKG_VERSION").to_owned()),
        ("{notice}", notice(status)),
        ("{figures}", figures(status)),
        ("{transfers}", transfers(&status.transfers)),
        // The host's name is filled in last, so that a name such as `{notice}` is not replaced.
        ("{host}", host),
    ];
    // Each `replace` also searches the texts that were filled in before. Names of transfers and errors come from
    // outside, but `Escaped` leaves no braces in them.
    parts.iter().fold(PAGE.to_owned(), |page, (name, text)| page.replace(name, text))
}

/// Says what the operator has to do.
fn notice(status: &CacheStatus) -> String {
    let text = match &status.sharing {
        None => "Blobs are not shared with other hosts. The log says why.".to_owned(),
        Some(SharingStatus { tracker: TrackerHealth::Fails(_), is_expected: false, .. }) => {
            "This cache works alone: no tracker is named. To share blobs with other hosts, set TRACKER and ETCD_HOST."
                .to_owned()
        }
        Some(SharingStatus { tracker: TrackerHealth::Fails(error), .. }) => {
            let remedy = error.remedy().map(|remedy| format!(" What to do: {remedy}.")).unwrap_or_default();
            format!("Blobs are not shared with other hosts, because the tracker fails: {error}.{remedy}")
        }
        Some(_) => return String::new(),
    };
    format!("<p class=\"notice\">{}</p>\n", Escaped(&text))
}

fn figures(status: &CacheStatus) -> String {
    let mut out = String::new();
    let mut figure = |name: &str, value: String, detail: String| {
        // Writing to a string does not fail.
        let _ = writeln!(out, "<div><dt>{name}</dt><dd>{value}</dd><dd>{detail}</dd></div>");
    };
    let (bytes, swarm, saved) = (status.bytes, status.swarm(), status.bytes.saved());
    let share = (i128::from(saved) * 100).checked_div(i128::from(bytes.sent)).unwrap_or(0);
    let sign = if saved < 0 { "−" } else { "" };
    let share = match share {
        share if share > 0 => format!("{share} % of what clients got"),
        _ if saved < 0 => "clients left before the end".to_owned(),
        _ => "that upstream did not send".to_owned(),
    };
    figure("Saved", format!("{sign}{}", ByteCount(saved.unsigned_abs())), share);
    figure("To clients", ByteCount(bytes.sent).to_string(), "of blobs".to_owned());
    figure("From upstream", ByteCount(bytes.from_upstream).to_string(), "of blobs".to_owned());
    figure("From other hosts", ByteCount(swarm.received).to_string(), format!("{} to them", ByteCount(swarm.sent)));
    if let Some(sharing) = &status.sharing {
        let (tracker, follows) = match &sharing.tracker {
            TrackerHealth::Unasked => ("is being asked", "no host is known yet"),
            TrackerHealth::Answers => ("answers", "blobs are shared"),
            TrackerHealth::Fails(_) if !sharing.is_expected => ("not set", "blobs are not shared"),
            TrackerHealth::Fails(_) => ("<span class=\"bad\">fails</span>", "blobs are not shared"),
        };
        figure("Tracker", tracker.to_owned(), follows.to_owned());
        let offered = blobs(sharing.offered as u64);
        figure("Peers", swarm.peers.to_string(), format!("{offered} offered on port {}", sharing.port));
    }
    match &status.disk {
        Some(disk) => {
            let detail = format!("of {}, {}, {} free", ByteCount(disk.quota), blobs(disk.blobs), ByteCount(disk.free));
            figure("On disk", ByteCount(disk.bytes).to_string(), detail);
        }
        None => figure("On disk", "<span class=\"bad\">fails</span>".to_owned(), "the log says why".to_owned()),
    }
    out
}

fn transfers(all: &[FlightSummary]) -> String {
    if all.is_empty() {
        return "<p>None at the moment.</p>\n".to_owned();
    }
    let mut out = String::from("<ul>\n");
    all.iter().take(MAX_SHOWN).for_each(|summary| transfer(&mut out, summary));
    out.push_str("</ul>\n");
    if let Some(more) = all.len().checked_sub(MAX_SHOWN).filter(|more| *more > 0) {
        let _ = writeln!(out, "<p>And {more} more.</p>");
    }
    out
}

fn transfer(out: &mut String, summary: &FlightSummary) {
    let (name, upstream) = (summary.name.to_string(), Escaped(&summary.upstream));
    let name = Escaped(&name);
    let _ = writeln!(out, "<li><p class=\"name\">{upstream}</p><p class=\"digest\">{name}</p>");
    let amount = match (summary.percent(), summary.length) {
        (Some(percent), Some(length)) => {
            let _ = writeln!(out, "<progress aria-label=\"{name}\" max=\"100\" value=\"{percent}\"></progress>");
            format!("{percent} % of {}", ByteCount(length))
        }
        _ => ByteCount(summary.have()).to_string(),
    };
    let clients = match summary.readers {
        1 => "1 client".to_owned(),
        readers => format!("{readers} clients"),
    };
    let _ = write!(out, "<p>{amount}, {} s, {clients}", summary.elapsed.as_secs());
    for (bytes, from) in [
        (summary.from_peers, "from other hosts"),
        (summary.from_upstream, "from upstream"),
        (summary.from_disk, "from disk"),
    ] {
        if bytes > 0 {
            let _ = write!(out, "; {} {from}", ByteCount(bytes));
        }
    }
    out.push_str("</p></li>\n");
}

fn blobs(count: u64) -> String {
    if count == 1 { "1 blob".to_owned() } else { format!("{count} blobs") }
}

/// A number of bytes, for people.
struct ByteCount(u64);

impl fmt::Display for ByteCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        let exponent = self.0.checked_ilog2().unwrap_or(0) / 10;
        let Some(unit) = exponent.checked_sub(1).and_then(|index| units.get(index as usize)) else {
            return write!(f, "{} bytes", self.0);
        };
        // In tenths, rounded down.
        let tenths = (u128::from(self.0) * 10) >> (10 * exponent);
        if tenths < 1000 {
            write!(f, "{}.{} {unit}", tenths / 10, tenths % 10)
        } else {
            write!(f, "{} {unit}", tenths / 10)
        }
    }
}

/// A text that is escaped for HTML, and for attributes.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '<' | '>' | '&' | '"' | '\'' | '{' | '}' => write!(f, "&#{};", u32::from(c)),
            c => f.write_char(c),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::digest::Digest;
    use crate::metrics::BlobBytes;
    use crate::store::StoreUsage;
    use crate::swarm::SwarmSample;
    use crate::swarm_tracker::{TrackerError, TrackerFault};

    fn status(tracker: TrackerHealth) -> CacheStatus {
        let transfer = FlightSummary {
            upstream: "https://quay.io <a>/{host}".into(),
            name: Digest::of(b"").into(),
            length: Some(32 << 20),
            from_disk: 0,
            from_peers: 12 << 20,
            from_upstream: 4 << 20,
            readers: 1,
            elapsed: Duration::from_secs(7),
        };
        let swarm = SwarmSample { sent: 1 << 30, received: 12 << 20, wasted: 0, wrong: 0, peers: 3 };
        CacheStatus {
            transfers: vec![transfer],
            bytes: BlobBytes { sent: 40 << 20, from_upstream: 10 << 20 },
            sharing: Some(SharingStatus { port: 6881, swarm, offered: 17, tracker, is_expected: true }),
            disk: Some(StoreUsage { bytes: 4096, blobs: 1, quota: 1 << 40, free: 8 }),
        }
    }

    #[test]
    fn the_page_tells_what_goes_on() {
        let page = html(&status(TrackerHealth::Answers));
        for text in [
            "30.0 MiB</dd><dd>75 % of what clients got",
            "50 % of 32.0 MiB, 7 s, 1 client; 12.0 MiB from other hosts; 4.0 MiB from upstream<",
            "1.0 GiB to them",
            "answers</dd><dd>blobs are shared",
            "3</dd><dd>17 blobs offered on port 6881",
            "4.0 KiB</dd><dd>of 1.0 TiB, 1 blob, 8 bytes free",
            "https://quay.io &#60;a&#62;/&#123;host&#125;<",
        ] {
            assert!(page.contains(text), "{text} in {page}");
        }
        for (name, _) in PAGE.match_indices('{') {
            let name = PAGE[name..].split_inclusive('}').next().unwrap();
            assert!(!page.contains(name), "{name} in {page}");
        }
        assert!(!page.contains("class=\"notice\"") && !page.contains("<script"));
    }

    #[test]
    fn the_page_says_what_to_do() {
        let fault = TrackerFault::Token("<b>no</b>".to_owned());
        let error = TrackerError { server: "http://10.0.0.1:2378".to_owned(), settings: "ETCD_HOST", fault };
        let mut status = status(TrackerHealth::Fails(error));
        let page = html(&status);
        assert!(
            page.contains("does not accept the token: &#60;b&#62;no&#60;/b&#62;. What to do: set TORRENTS_TOKEN"),
            "{page}"
        );
        status.bytes = BlobBytes { sent: 0, from_upstream: 1 << 20 };
        status.disk = None;
        status.transfers = vec![status.transfers[0].clone(); MAX_SHOWN + 2];
        let page = html(&status);
        assert!(page.contains("−1.0 MiB</dd><dd>clients left") && page.contains("And 2 more."), "{page}");
        if let Some(sharing) = &mut status.sharing {
            sharing.is_expected = false;
        }
        assert!(html(&status).contains("set TRACKER and ETCD_HOST"));
        status.sharing = None;
        status.transfers.clear();
        let page = html(&status);
        assert!(page.contains("are not shared") && page.contains("None at the moment"), "{page}");
    }

    #[test]
    fn bytes_are_rounded_down() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (1024, "1.0 KiB"),
            (102_399, "99.9 KiB"),
            (102_400, "100 KiB"),
            ((1 << 20) - 1, "1023 KiB"),
            (u64::MAX, "15.9 EiB"),
        ] {
            assert_eq!(ByteCount(bytes).to_string(), text);
        }
    }
}
