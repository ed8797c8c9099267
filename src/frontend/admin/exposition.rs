//! Writes the metrics as text. prometheus-client writes only OpenMetrics, but scrapers without an `Accept` header
//! expect the classic format. It has the same lines, other names of counters, and no trailer.

use std::fmt::{self, Write};

use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;

/// A text format of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// The Prometheus text format 0.0.4.
    Classic,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
}

impl Format {
    /// The format that the `Accept` lines ask for (RFC 9110, section 12.5.1): the one of higher quality. At equal
    /// quality, OpenMetrics only if a line names it; a wildcard is not enough.
    pub(super) fn negotiate<'a>(accept: impl IntoIterator<Item = &'a str>) -> Self {
        let ranges: Vec<_> = accept.into_iter().flat_map(|line| line.split(',')).filter_map(range).collect();
        let named = quality(&ranges, "application/openmetrics-text");
        let open_metrics = named.or_else(|| quality(&ranges, "application/*")).or_else(|| quality(&ranges, "*/*"));
        let classic = ["text/plain", "text/*", "*/*"].into_iter().find_map(|kind| quality(&ranges, kind));
        let (open_metrics, classic) = (open_metrics.unwrap_or(0.0), classic.unwrap_or(0.0));
        let is_wanted = open_metrics > classic || named.is_some() && open_metrics > 0.0 && open_metrics >= classic;
        if is_wanted { Self::OpenMetrics } else { Self::Classic }
    }

    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Classic => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// A media range in lower case, and its quality from 0 to 1. `None` if the range is malformed.
fn range(text: &str) -> Option<(String, f32)> {
    let mut parts = text.split(';').map(str::trim);
    let kind = parts.next()?.to_ascii_lowercase();
    let parameter =
        |part: &'_ str| part.split_once('=').map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()));
    let quality = parts.filter_map(parameter).find(|(name, _)| name.eq_ignore_ascii_case("q"));
    let quality = quality.map_or(Some(1.0), |(_, value)| value.parse().ok());
    Some((kind, quality.filter(|quality| (0.0..=1.0).contains(quality))?))
}

/// The highest quality of exactly this range. A client may name a range once for each version of the format.
fn quality(ranges: &[(String, f32)], kind: &str) -> Option<f32> {
    ranges.iter().filter(|(named, _)| named == kind).map(|(_, quality)| *quality).max_by(f32::total_cmp)
}

pub(super) fn encode(registry: &Registry, format: Format) -> Result<String, fmt::Error> {
    let mut open_metrics = String::with_capacity(16 * 1024);
    text::encode(&mut open_metrics, registry)?;
    match format {
        Format::OpenMetrics => Ok(open_metrics),
        Format::Classic => classic(&open_metrics),
    }
}

/// Converts OpenMetrics to the classic format, whose `HELP` and `TYPE` lines name a counter with `_total` and an info
/// with `_info`. Units and the trailer are left out. A metric of unknown type becomes a counter, because all metrics of
/// that type are counters of the Go retracker.
fn classic(open_metrics: &str) -> Result<String, fmt::Error> {
    let mut out = String::with_capacity(open_metrics.len());
    let mut help: Option<(&str, &str)> = None;
    for line in open_metrics.lines() {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some("HELP"), Some(name), Some(text)) => help = Some((name, text)),
            (Some("#"), Some("TYPE"), Some(name), Some(kind)) => {
                let (suffix, kind) = match kind {
                    "counter" => ("_total", "counter"),
                    "info" => ("_info", "gauge"),
                    "unknown" => ("", "counter"),
                    other => ("", other),
                };
                if let Some((_, text)) = help.take().filter(|(helped, _)| *helped == name) {
                    writeln!(out, "# HELP {name}{suffix} {text}")?;
                }
                writeln!(out, "# TYPE {name}{suffix} {kind}")?;
            }
            (Some("#"), ..) => {}
            _ => writeln!(out, "{line}")?,
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classic_names() {
        let open_metrics = "# HELP a Things.\n# TYPE a counter\na_total{x=\"# y\"} 1\n# HELP b B.\n# TYPE b info\n\
             b_info{v=\"1\"} 1\n# HELP c_seconds C.\n# TYPE c_seconds histogram\n# UNIT c_seconds seconds\n\
             c_seconds_sum 0.0\n# HELP d D.\n# TYPE d unknown\nd 4\n# EOF\n";
        assert_eq!(
            classic(open_metrics).unwrap(),
            "# HELP a_total Things.\n# TYPE a_total counter\na_total{x=\"# y\"} 1\n# HELP b_info B.\n\
             # TYPE b_info gauge\nb_info{v=\"1\"} 1\n# HELP c_seconds C.\n# TYPE c_seconds histogram\n\
             c_seconds_sum 0.0\n# HELP d D.\n# TYPE d counter\nd 4\n"
        );
    }

    #[test]
    fn the_format_is_the_one_that_is_preferred() {
        use Format::{Classic, OpenMetrics};
        for (accept, format) in [
            (&[][..], Classic),
            (&[""], Classic),
            (&["*/*"], Classic),
            (&["text/*"], Classic),
            (&["text/plain;version=0.0.4"], Classic),
            (&["text/html"], Classic),
            (&["application/openmetrics-text"], OpenMetrics),
            (&["APPLICATION/OpenMetrics-Text; Version=1.0.0"], OpenMetrics),
            (
                &["application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1"],
                OpenMetrics,
            ),
            (
                &[
                    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;q=0.5",
                ],
                OpenMetrics,
            ),
            (&["application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.9"], Classic),
            (&["application/openmetrics-text;q=0.5, text/plain"], Classic),
            (&["application/openmetrics-text ; q = 0.5 , text/plain ; Q=0.4"], OpenMetrics),
            (&["application/openmetrics-text, text/plain"], OpenMetrics),
            (&["application/openmetrics-text;q=0"], Classic),
            (&["application/openmetrics-text;q=0, text/plain"], Classic),
            (&["application/openmetrics-text;q=0.000, */*"], Classic),
            (&["application/openmetrics-text;q=0.2, */*"], Classic),
            (&["application/*"], OpenMetrics),
            (&["application/*, */*;q=0.1"], OpenMetrics),
            (&["*/*, text/plain;q=0.1"], OpenMetrics),
            (&["*/*, text/*;q=0"], OpenMetrics),
            (&["text/plain;q=0.4", "application/openmetrics-text;q=0.6"], OpenMetrics),
            (&["text/plain;q=0.6", "application/openmetrics-text;q=0.4"], Classic),
            (&["application/openmetrics-text;q=much, text/plain;q=0.1"], Classic),
            (&["application/openmetrics-text-not"], Classic),
        ] {
            assert_eq!(Format::negotiate(accept.iter().copied()), format, "{accept:?}");
        }
    }
}
