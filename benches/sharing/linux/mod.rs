//! The simulation, which needs Linux.

mod clients;
mod fleet;
mod instance;
mod paper;
mod receiver;
mod scenario;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use load::machine::{self, Cores};

use self::clients::AnnounceWindow;
use self::fleet::{GrowthCost, SimulatedFleet, retention};
use self::paper::PaperFigures;
use self::scenario::{Balance, GrowthScenario, MOST_INSTANCES};

/// The longest time that is simulated after a loss.
const AFTER_LOSS: Duration = Duration::from_secs(4);

/// Simulates how far several instances with one swarm can grow.
#[derive(Parser)]
#[command(name = "cargo bench --bench sharing --")]
struct SharingArguments {
    /// How many peers there are.
    #[arg(long, default_value_t = 10_000_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    peers: u64,
    /// How many instances there are: a row for each number.
    #[arg(long, value_delimiter = ',', default_values_t = [2, 8, 64], value_parser = instances)]
    instances: Vec<usize>,
    /// How many minutes pass between two announces of a peer: with the most instances, a row for each number.
    #[arg(long, value_delimiter = ',', default_values_t = [30.0, 5.0, 0.5])]
    minutes: Vec<f64>,
    /// How many seconds are simulated when everything has settled.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
}

fn instances(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| (1..=MOST_INSTANCES).contains(number));
    number.ok_or_else(|| format!("not a number from 1 to {MOST_INSTANCES}"))
}

pub(crate) fn main() -> ExitCode {
    // `cargo test --all-targets` starts benchmarks without `--bench`, to test that they start.
    if !std::env::args().any(|arg| arg == "--bench") {
        println!("nothing is measured without --bench, which `cargo bench` adds");
        return ExitCode::SUCCESS;
    }
    let arguments = SharingArguments::parse_from(std::env::args().filter(|arg| arg != "--bench"));
    let length = Duration::from_secs(arguments.seconds);
    let start = Instant::now();
    print_head();
    for scenario in scenarios(&arguments) {
        if let Err(why) = print_row(scenario, length) {
            eprintln!("{why}");
            return ExitCode::FAILURE;
        }
    }
    let took = start.elapsed().as_secs();
    let cores = Cores::of_this_process();
    println!("\n{}; {}; in {took} s", machine::today(), machine::describe(&cores));
    ExitCode::SUCCESS
}

/// Returns the rows of the table. First comes each number of instances, with the first interval. Then, with the most
/// instances, come the other ways to balance, the other intervals, and the time after a loss.
fn scenarios(arguments: &SharingArguments) -> Vec<GrowthScenario> {
    let SharingArguments { peers, instances, minutes, .. } = arguments;
    let intervals: Vec<_> = minutes.iter().map(|minutes| Duration::from_secs_f64(minutes * 60.0)).collect();
    let (Some(&interval), Some(&most)) = (intervals.first(), instances.iter().max()) else { return Vec::new() };
    let usual =
        GrowthScenario { peers: *peers, instances: most, interval, balance: Balance::Torrent, after_loss: false };
    let mut scenarios: Vec<_> = instances.iter().map(|&instances| GrowthScenario { instances, ..usual }).collect();
    scenarios.extend([Balance::Turns, Balance::Random].map(|balance| GrowthScenario { balance, ..usual }));
    scenarios.extend(intervals.iter().skip(1).map(|&interval| GrowthScenario { interval, ..usual }));
    let extremes = intervals.iter().take(1).chain(intervals.iter().skip(1).last());
    scenarios.extend(extremes.map(|&interval| GrowthScenario { interval, after_loss: true, ..usual }));
    scenarios
}

fn print_head() {
    const HEAD: [&str; 15] = [
        "peers",
        "announce every",
        "instances",
        "balanced",
        "announces/s",
        "records/s on paper",
        "records/s",
        "records a batch",
        "KB/s written",
        "CPU of Redis on paper",
        "CPU of Redis",
        "its memory on paper",
        "its memory",
        "CPU of each instance",
        "lag: median, longest",
    ];
    println!("| {} |\n|{}", HEAD.join(" | "), " --- |".repeat(HEAD.len()));
}

fn print_row(scenario: GrowthScenario, length: Duration) -> Result<(), String> {
    let GrowthScenario { peers, instances, interval, balance, after_loss } = scenario;
    // After a loss each peer is shared once more. A short window keeps these announces small enough for the memory.
    let length = if after_loss { length.min(AFTER_LOSS) } else { length };
    let window = AnnounceWindow::simulate(scenario, length);
    let cost = SimulatedFleet::start(scenario, &window)?.run(length)?;
    let paper = PaperFigures::of(scenario);
    let seconds = length.as_secs_f64();
    let records = cost.records as f64 / seconds;
    let GrowthCost {
        batches, bytes, redis_cpu, bytes_per_record, instance_cpu, applying, lag: (median, longest), ..
    } = cost;
    let kept = retention(scenario).as_secs_f64() * records * bytes_per_record;
    let loss = if after_loss { ", after a loss" } else { "" };
    let noisy = if cost.is_disturbed { " noisy" } else { "" };
    let or_blank = |text: Option<String>| text.unwrap_or_default();
    let cells = [
        peers.to_string(),
        format!("{} s{loss}", interval.as_secs()),
        instances.to_string(),
        balance.to_string(),
        format!("{:.0}", window.announces as f64 / seconds),
        or_blank(paper.map(|paper| format!("{:.0}", paper.records))),
        format!("{records:.0}"),
        format!("{:.1}", cost.records as f64 / batches.max(1) as f64),
        format!("{:.0}", bytes as f64 / seconds / 1e3),
        or_blank(paper.and_then(|paper| paper.redis_cpu(instances)).map(|cpu| format!("{:.0} %", cpu * 100.0))),
        format!("{:.1} %{noisy}", redis_cpu * 100.0),
        or_blank(paper.map(|paper| format!("{:.1} GB", paper.memory / 1e9))),
        if after_loss {
            format!("{bytes_per_record:.0} B a record")
        } else {
            format!("{:.2} GB, {bytes_per_record:.0} B a record", kept / 1e9)
        },
        format!("{:.1} %, applying {:.2} µs a record", instance_cpu * 100.0, applying.as_secs_f64() * 1e6),
        format!("{median:.0} ms, {longest:.0} ms, {} times behind", cost.behind),
    ];
    println!("| {} |", cells.join(" | "));
    Ok(())
}
