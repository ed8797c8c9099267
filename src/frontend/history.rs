//! The main figures of the last hour and day, for operators without a monitoring system. They take about 200 KiB of
//! memory.

use std::collections::VecDeque;

use parking_lot::Mutex;

use crate::metrics::DurationCounts;

/// Seconds between two points of the last hour, and of the last day.
pub const STEPS: [u64; 2] = [5, 60];

/// The most points that are kept of the last hour, and of the last day.
const POINTS: [usize; 2] = [720, 1440];

/// The number of steps of the last hour that make up [`History::last_minute`].
const LAST_MINUTE: usize = 12;

/// The names of the figures, in the order of a point. First `RATES` rates: the growth of a counter during the step, in
/// events per second. Then `GAUGES` gauges at the end of the step. Last, quantiles of the time that the step's
/// announces took, in seconds.
pub const FIGURES: [&str; RATES + GAUGES + QUANTILES.len()] = [
    "announces_answered",
    "announces_refused",
    "scrapes_answered",
    "scrapes_refused",
    "udp_connects",
    "connections_shed",
    "announces_answered_http",
    "announces_refused_http",
    "scrapes_answered_http",
    "scrapes_refused_http",
    "announces_answered_udp",
    "announces_refused_udp",
    "scrapes_answered_udp",
    "scrapes_refused_udp",
    "peers_ipv4",
    "peers_ipv6",
    "seeds",
    "torrents",
    "connections",
    "notices",
    "announce_seconds_p50",
    "announce_seconds_p90",
    "announce_seconds_p99",
];

const RATES: usize = 14;
const GAUGES: usize = 6;

/// The quantiles that are shown, by name.
pub const QUANTILES: [(&str, f64); 3] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99)];

/// The values of the metrics at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// The counters.
    pub counters: [u64; RATES],
    /// The gauges.
    pub gauges: [f32; GAUGES],
    /// How long the announces since the start took.
    pub durations: DurationCounts,
}

/// One point: the figures of one step. A quantile is NaN if no announce ended during the step.
pub type Point = [f32; FIGURES.len()];

/// The points of the last hour and of the last day.
#[derive(Debug, Default)]
pub struct History(Mutex<Recorded>);

#[derive(Debug, Default)]
struct Recorded {
    series: [PointSeries; 2],
    /// The durations in the snapshots of the last minute, the oldest first.
    durations: VecDeque<DurationCounts>,
}

/// The points that are the same time apart, the oldest first.
#[derive(Debug, Default)]
struct PointSeries {
    points: VecDeque<Point>,
    /// The snapshot at the latest point, and its time in seconds since the start.
    latest: Option<(u64, Snapshot)>,
}

impl History {
    /// Records a snapshot if a step has ended. `now` is in seconds since the start. Must be called once a second.
    pub fn record(&self, now: u64, snapshot: impl FnOnce() -> Snapshot) {
        let Recorded { series: all, durations } = &mut *self.0.lock();
        let is_due = |series: &PointSeries, step: u64| series.latest.is_none_or(|(at, _)| now >= at + step);
        if !all.iter().zip(STEPS).any(|(series, step)| is_due(series, step)) {
            return;
        }
        let snapshot = snapshot();
        let [hour, _] = all;
        if is_due(hour, STEPS[0]) {
            durations.push_back(snapshot.durations);
            if durations.len() > LAST_MINUTE + 1 {
                durations.pop_front();
            }
        }
        for ((series, step), most) in all.iter_mut().zip(STEPS).zip(POINTS) {
            if is_due(series, step) {
                series.add(now, &snapshot, most);
            }
        }
    }

    /// The points with this number of seconds between them, the oldest first. Empty if there are no such points.
    pub fn points(&self, step: u64) -> Vec<Point> {
        let recorded = self.0.lock();
        let series = recorded.series.iter().zip(STEPS).find(|(_, other)| *other == step);
        series.map(|(series, _)| series.points.iter().copied().collect()).unwrap_or_default()
    }

    /// A figure of the latest point of the last hour. `None` before the first point, or if the figure is NaN.
    pub fn latest(&self, figure: &str) -> Option<f32> {
        let place = FIGURES.iter().position(|name| *name == figure)?;
        let [hour, _] = &self.0.lock().series;
        hour.points.back()?.get(place).copied().filter(|value| !value.is_nan())
    }

    /// How long the announces of the last minute took, as of the latest point of the last hour.
    pub fn last_minute(&self) -> DurationCounts {
        let durations = &self.0.lock().durations;
        let ends = durations.front().zip(durations.back());
        ends.map(|(oldest, latest)| latest.since(oldest)).unwrap_or_default()
    }
}

impl PointSeries {
    fn add(&mut self, now: u64, snapshot: &Snapshot, most: usize) {
        let latest = self.latest.replace((now, *snapshot));
        let Some((then, before)) = latest.filter(|(then, _)| now > *then) else { return };
        let mut point = Point::default();
        let rates = snapshot.counters.iter().zip(before.counters).map(|(now, then)| now.saturating_sub(then));
        #[expect(clippy::cast_precision_loss, reason = "a rate is shown with three digits")]
        let rates = rates.map(|count| count as f32 / (now - then) as f32);
        let durations = snapshot.durations.since(&before.durations);
        #[expect(clippy::cast_possible_truncation, reason = "a quantile is shown with three digits")]
        let quantiles =
            QUANTILES.map(|(_, share)| durations.quantile(share).map_or(f32::NAN, |seconds| seconds as f32));
        point.iter_mut().zip(rates.chain(snapshot.gauges).chain(quantiles)).for_each(|(to, figure)| *to = figure);
        if self.points.len() == most {
            self.points.pop_front();
        }
        self.points.push_back(point);
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::registry::Registry;

    use super::*;
    use crate::metrics::Metrics;

    fn snapshot(count: u64) -> Snapshot {
        Snapshot { counters: [count; RATES], gauges: [7.0; GAUGES], durations: DurationCounts::default() }
    }

    #[test]
    fn rates_are_per_second_and_gauges_as_they_are() {
        let history = History::default();
        for second in 0..=60 {
            history.record(second, || snapshot(10 * second));
        }
        let points = history.points(5);
        assert_eq!(points.len(), 12);
        let gauges = RATES..RATES + GAUGES;
        assert!(points.iter().all(|point| point[..RATES] == [10.0; RATES] && point[gauges.clone()] == [7.0; GAUGES]));
        assert_eq!((history.points(60).len(), history.points(60)[0][0], history.points(7).len()), (1, 10.0, 0));
    }

    #[test]
    fn an_hour_and_a_day_are_kept_in_a_quarter_of_a_megabyte() {
        let history = History::default();
        (0..2 * 86_400).for_each(|second| history.record(second, || snapshot(second)));
        let counts = STEPS.map(|step| history.points(step).len());
        assert_eq!(counts, POINTS);
        assert!(counts.iter().sum::<usize>() * size_of::<Point>() <= 256 * 1024);
    }

    #[test]
    fn a_pause_makes_one_point_with_the_mean_rate() {
        let history = History::default();
        for (second, count) in [(0, 0), (5, 5), (1000, 1000), (1005, 1005)] {
            history.record(second, || snapshot(count));
        }
        assert_eq!(history.points(5).iter().map(|point| point[0]).collect::<Vec<_>>(), [1.0; 3]);
    }

    #[test]
    fn quantiles_are_of_the_announces_of_a_step_and_of_a_minute() {
        let metrics = Metrics::register(&mut Registry::default());
        let history = History::default();
        let mut of_last_minute = Vec::new();
        for second in 0..=70 {
            // One announce ends in each of the first ten seconds. The first announce belongs to no step, because it
            // ends before the first snapshot.
            if second < 10 {
                drop(metrics.time_announce());
            }
            history.record(second, || Snapshot { durations: metrics.announce_durations(), ..snapshot(0) });
            of_last_minute.push(history.last_minute().total());
        }
        assert_eq!([0, 5, 10, 60, 65, 70].map(|second: usize| of_last_minute[second]), [0, 5, 9, 9, 4, 0]);
        let p50 = FIGURES.iter().position(|name| *name == "announce_seconds_p50").unwrap();
        let is_known: Vec<_> = history.points(5).iter().map(|point| !point[p50].is_nan()).collect();
        assert_eq!(is_known[..3], [true, true, false]);
        assert_eq!((history.latest("announce_seconds_p50"), history.latest("seeds")), (None, Some(7.0)));
    }
}
