//! The kernel's figures about the process, under the names that every Prometheus client library uses.

use std::fmt;
use std::time::Duration;

use procfs::process::LimitValue;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::sampled::gauge;

#[derive(Debug)]
pub(super) struct ProcessCollector;

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Ok(process) = procfs::process::Process::myself() else { return Ok(()) };
        if let Ok(stat) = process.stat() {
            let milliseconds = (stat.utime + stat.stime) * 1000 / procfs::ticks_per_second().max(1);
            let seconds = Duration::from_millis(milliseconds).as_secs_f64();
            let help = "User and system CPU time spent";
            let descriptor = encoder.encode_descriptor("process_cpu_seconds", help, None, MetricType::Counter)?;
            ConstCounter::new(seconds).encode(descriptor)?;
            let resident = stat.rss.saturating_mul(procfs::page_size());
            let resident = i64::try_from(resident).unwrap_or(i64::MAX);
            gauge(&mut encoder, "process_resident_memory_bytes", "Resident memory", resident)?;
            let size = i64::try_from(stat.vsize).unwrap_or(i64::MAX);
            gauge(&mut encoder, "process_virtual_memory_bytes", "Virtual memory", size)?;
            gauge(&mut encoder, "process_threads", "Threads", stat.num_threads)?;
            if let Ok(boot) = procfs::boot_time_secs() {
                let since_boot = stat.starttime.saturating_mul(1000) / procfs::ticks_per_second().max(1);
                let started = Duration::from_secs(boot) + Duration::from_millis(since_boot);
                let help = "Start of the process in seconds since 1970";
                exact(&mut encoder, "process_start_time_seconds", help, started.as_secs_f64())?;
            }
        }
        if let Ok(open) = process.fd_count() {
            let open = i64::try_from(open).unwrap_or(i64::MAX);
            gauge(&mut encoder, "process_open_fds", "Open file descriptors", open)?;
        }
        if let Ok(limits) = process.limits() {
            let most = number(limits.max_open_files.soft_limit);
            exact(&mut encoder, "process_max_fds", "File descriptors that may be open", most)?;
            let most = number(limits.max_address_space.soft_limit);
            exact(&mut encoder, "process_virtual_memory_max_bytes", "Virtual memory that the process may take", most)?;
        }
        Ok(())
    }
}

/// Returns the open descriptors and their limit. `None` if the kernel does not say.
pub(super) fn descriptors() -> Option<[u64; 2]> {
    let process = procfs::process::Process::myself().ok()?;
    let most = match process.limits().ok()?.max_open_files.soft_limit {
        LimitValue::Value(most) => most,
        LimitValue::Unlimited => u64::MAX,
    };
    Some([u64::try_from(process.fd_count().ok()?).ok()?, most])
}

fn exact(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: f64) -> Result<(), fmt::Error> {
    ConstGauge::new(value).encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
}

/// Returns the limit as a number. No limit is the kernel's largest number, as in other client libraries.
#[allow(clippy::cast_precision_loss, reason = "a gauge is a floating-point number")]
fn number(limit: LimitValue) -> f64 {
    match limit {
        LimitValue::Value(limit) => limit as f64,
        LimitValue::Unlimited => u64::MAX as f64,
    }
}
