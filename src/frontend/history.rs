//! The main figures of the last hour and of the last day, so that an operator sees what has happened without a
//! monitoring system. It takes about 100 KiB.

use std::collections::VecDeque;

use parking_lot::Mutex;

/// Seconds between two points of the last hour, and of the last day.
pub const STEPS: [u64; 2] = [5, 60];

/// How many points each of the two has.
const POINTS: [usize; 2] = [720, 1440];

/// The names of the figures, in the order in which points have them. The first ones count something since the start.
/// Points have their rates, in events per second. The others are as they are at the moment.
pub const FIGURES: [&str; RATES + GAUGES] = [
    "announces_answered",
    "announces_refused",
    "scrapes_answered",
    "scrapes_refused",
    "udp_connects",
    "connections_shed",
    "peers_ipv4",
    "peers_ipv6",
    "seeds",
    "torrents",
    "connections",
    "notices",
];

const RATES: usize = 6;
const GAUGES: usize = 6;

/// What is known at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// The counters.
    pub counters: [u64; RATES],
    /// The gauges.
    pub gauges: [f32; GAUGES],
}

/// One point: the figures of one step.
pub type Point = [f32; RATES + GAUGES];

/// The points of the last hour and of the last day.
#[derive(Debug, Default)]
pub struct History(Mutex<[PointSeries; 2]>);

/// The points of one step length, the oldest first.
#[derive(Debug, Default)]
struct PointSeries {
    points: VecDeque<Point>,
    /// What was known at the latest point, and when that was. In seconds since the start.
    latest: Option<(u64, Snapshot)>,
}

impl History {
    /// Records what is known now, in seconds since the start. Must be called once a second; most calls do nothing.
    pub fn record(&self, now: u64, snapshot: impl FnOnce() -> Snapshot) {
        let mut all = self.0.lock();
        let is_due = |series: &PointSeries, step: u64| series.latest.is_none_or(|(at, _)| now >= at + step);
        if !all.iter().zip(STEPS).any(|(series, step)| is_due(series, step)) {
            return;
        }
        let snapshot = snapshot();
        for ((series, step), most) in all.iter_mut().zip(STEPS).zip(POINTS) {
            if is_due(series, step) {
                series.add(now, snapshot, most);
            }
        }
    }

    /// The points with this number of seconds between them, the oldest first. Empty if there are none.
    pub fn points(&self, step: u64) -> Vec<Point> {
        let all = self.0.lock();
        let series = all.iter().zip(STEPS).find(|(_, other)| *other == step);
        series.map(|(series, _)| series.points.iter().copied().collect()).unwrap_or_default()
    }
}

impl PointSeries {
    fn add(&mut self, now: u64, snapshot: Snapshot, most: usize) {
        let latest = self.latest.replace((now, snapshot));
        let Some((then, before)) = latest.filter(|(then, _)| now > *then) else { return };
        let mut point = Point::default();
        let rates = snapshot.counters.iter().zip(before.counters).map(|(now, then)| now.saturating_sub(then));
        // Rates need no more digits than this.
        #[expect(clippy::cast_precision_loss, reason = "a rate is shown with three digits")]
        let rates = rates.map(|count| count as f32 / (now - then) as f32);
        point.iter_mut().zip(rates.chain(snapshot.gauges)).for_each(|(to, figure)| *to = figure);
        if self.points.len() == most {
            self.points.pop_front();
        }
        self.points.push_back(point);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(count: u64) -> Snapshot {
        Snapshot { counters: [count; RATES], gauges: [7.0; GAUGES] }
    }

    #[test]
    fn rates_are_per_second_and_gauges_as_they_are() {
        let history = History::default();
        for second in 0..=60 {
            history.record(second, || snapshot(10 * second));
        }
        let points = history.points(5);
        assert_eq!(points.len(), 12);
        assert!(points.iter().all(|point| point[..RATES] == [10.0; RATES] && point[RATES..] == [7.0; GAUGES]));
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
}
