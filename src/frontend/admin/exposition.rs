//! The metrics as text. prometheus-client writes OpenMetrics only; the classic format, which scrapers without an
//! `Accept` header expect, is the same lines with other names for counters and without the trailer.

use std::fmt::{self, Write};

use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;

/// In which format the metrics are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// The Prometheus text format 0.0.4.
    Classic,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
}

impl Format {
    /// OpenMetrics for whoever names it, as every Prometheus server does.
    pub(super) fn negotiate(accept: &str) -> Self {
        if accept.contains("application/openmetrics-text") { Self::OpenMetrics } else { Self::Classic }
    }

    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Classic => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

pub(super) fn encode(registry: &Registry, format: Format) -> Result<String, fmt::Error> {
    let mut open_metrics = String::with_capacity(16 * 1024);
    text::encode(&mut open_metrics, registry)?;
    match format {
        Format::OpenMetrics => Ok(open_metrics),
        Format::Classic => classic(&open_metrics),
    }
}

/// OpenMetrics names a counter without the `_total` of its samples, and an info without `_info`; the classic format
/// names them in full. It has neither units nor a trailer. What is of unknown type are the counters of the Go retracker.
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
    fn open_metrics_is_for_those_who_ask() {
        assert_eq!(Format::negotiate(""), Format::Classic);
        assert_eq!(Format::negotiate("*/*"), Format::Classic);
        assert_eq!(Format::negotiate("text/plain;version=0.0.4"), Format::Classic);
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1";
        assert_eq!(Format::negotiate(prometheus), Format::OpenMetrics);
    }
}
