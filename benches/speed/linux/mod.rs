//! The parts of the benchmark. They need Linux.

mod announces;
mod aquatic;
mod arguments;
mod bench;
mod cells;
mod cores;
mod expiry;
mod forwarders;
mod memory;
mod pages;
mod program;
mod rounds;
mod sharing;
mod soak;
mod udp;

use std::process::ExitCode;
use std::sync::atomic::Ordering::Relaxed;

use load::machine::{self, Cores, Placement};
use load::table::{self, Row};

use self::arguments::{Arguments, Command};
use self::bench::Bench;
use self::program::Program;

/// A measurement: its name on the command line, the name of its figure, and the function that measures.
type Part = (&'static str, &'static str, fn(&Bench) -> Result<Vec<Row>, String>);

const PARTS: &[Part] = &[
    ("keepalive", "announces over kept connections", announces::keepalive),
    ("close", "announces, a connection each", announces::close),
    ("latency", "latency under the same load", announces::latency),
    ("scrape", "scrapes of 64 swarms", announces::scrape),
    ("udp", "announces over UDP", udp::announces),
    ("udp-aquatic", "announces over UDP of aquatic's load generator", aquatic::announces),
    ("memory", "memory per peer", memory::per_peer),
    ("cores", "two cores against one", cores::two),
    ("forwarders", "announces with forwarders", forwarders::warm),
    ("growth", "announces of very many peers", announces::growth),
    ("expiry", "announces while peers expire", expiry::together),
    ("pages", "announces while browsers show the dashboard", pages::open),
    ("sharing", "announces that are shared", sharing::over_http),
    ("sharing-udp", "announces over UDP that are shared", sharing::over_udp),
    ("records", "records of other instances", sharing::received),
    ("idle", "instances without clients", sharing::idle),
    ("replay", "announces while records are read", sharing::slowest),
    ("go", "announces, beside the Go retracker", announces::go_retracker),
    ("gomemory", "memory per peer, beside the Go retracker", memory::go_retracker),
];

pub(crate) fn main() -> ExitCode {
    // `cargo test --all-targets` starts benchmarks without `--bench`, to test that they start.
    if !std::env::args().any(|arg| arg == "--bench") {
        println!("nothing is measured without --bench, which `cargo bench` adds");
        return ExitCode::SUCCESS;
    }
    let arguments = Arguments::read();
    if let Some(missing) = program::missing() {
        eprintln!("{missing}");
        return ExitCode::FAILURE;
    }
    match arguments {
        Arguments { command: Some(Command::Load(load)), .. } => load.run(),
        Arguments { command: Some(Command::Soak(soak)), .. } => soak.run(),
        Arguments { parts, tries, .. } => {
            rounds::TRIES.store(tries.into(), Relaxed);
            compare(&parts)
        }
    }
}

/// Runs the wanted measurements, or all if none is named, and prints the table.
fn compare(wanted: &[String]) -> ExitCode {
    if let Some(unknown) = wanted.iter().find(|wanted| !PARTS.iter().any(|(name, ..)| name == wanted)) {
        let names: Vec<_> = PARTS.iter().map(|(name, ..)| *name).collect();
        eprintln!("there is no measurement `{unknown}`; there are: {}", names.join(", "));
        return ExitCode::FAILURE;
    }
    let bench = Bench {
        cores: Cores::of_this_process(),
        opentracker: Program::opentracker(),
        go_retracker: Program::go_retracker(),
        aquatic_udp: Program::aquatic_udp(),
    };
    table::print_head("retracker", "compared with");
    let mut failed = false;
    for (_, figure, measure) in PARTS.iter().filter(|(name, ..)| wanted.is_empty() || wanted.iter().any(|w| w == name))
    {
        bench.cores.pin(Placement::Load);
        for row in measure(&bench).unwrap_or_else(|why| vec![Row::failed(figure, &why)]) {
            row.print();
            failed |= row.is_failed();
        }
    }
    print_foot(&bench);
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Prints the date, the machine and the versions.
fn print_foot(bench: &Bench) {
    let Bench { cores, opentracker, go_retracker, aquatic_udp } = bench;
    let ours = Some(Program::retracker());
    let programs = [&ours, opentracker, go_retracker, aquatic_udp].into_iter().flatten();
    let programs: Vec<_> = programs.map(|program| program.version(cores)).collect();
    println!("\n{}; {}; {}", machine::today(), machine::describe(cores), programs.join(", "));
}
