//! The CPU time of announces over UDP that aquatic's own load generator sends. Each of its announces
//! is a `started` or a `completed`. Most peers are in a few large swarms, and all peers have the same address.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::process::{ChildStdout, Command, Stdio};

use load::child::ChildProcess;
use load::figures::Sample;
use load::machine::{CpuClock, Placement};
use load::table::Row;
use tempfile::NamedTempFile;

use super::announces::COST;
use super::bench::Bench;
use super::program::{Program, installed};
use super::rounds::ours_and;

const PEERS: u64 = 1_000_000;

/// Announces before the measurement: all peers are there, and have announced once more.
const WARM_UP: f64 = 2.0 * PEERS as f64;

/// The seconds between two reports of the generator.
const INTERVAL: f64 = 5.0;

/// How many intervals are measured.
const INTERVALS: usize = 2;

pub(super) fn announces(bench: &Bench) -> Result<Vec<Row>, String> {
    let figure = "announces over UDP of aquatic's load generator";
    let Some(generator) = installed("AQUATIC_UDP_LOAD_TEST", "aquatic_udp_load_test") else {
        return Ok(vec![Row::new(figure, "its generator is not on this machine")]);
    };
    let mut rows = Vec::new();
    for (name, rival, goal) in bench.udp_rivals() {
        let (ours, theirs) = ours_and(rival, |program| cost(bench, &generator, program))?;
        rows.push(Row::compared(&format!("{figure}, beside {name}"), COST, &ours, theirs.as_ref(), goal));
    }
    Ok(rows)
}

fn cost(bench: &Bench, generator: &str, program: &Program) -> Result<Sample, String> {
    let server = program.start_udp(&bench.cores, Placement::Server, false, &[])?;
    let config = config(generator, server.address)?;
    let mut load = AquaticLoad::start(generator, &config)?;
    let mut answered = 0.0;
    while answered < WARM_UP {
        answered += load.announces()?;
    }
    let clock = CpuClock::start_beside(&[server.pid()], &[load.process.pid()]);
    let mut measured = 0.0;
    for _ in 0..INTERVALS {
        measured += load.announces()?;
    }
    let spent = clock.stop();
    let value = spent.tracker.as_secs_f64() / measured * 1e6;
    eprintln!("  {}: {value:.2} CPU s/1 M", server.name);
    Ok(Sample { value, aside: measured / INTERVAL / INTERVALS as f64, noisy: spent.is_disturbed() })
}

/// Writes the generator's default configuration, with announces only and the usual number of peers in a reply.
fn config(generator: &str, tracker: SocketAddr) -> Result<NamedTempFile, String> {
    let output = Command::new(generator).arg("-p").output().map_err(|error| error.to_string())?;
    let settings = [
        ("server_address", format!("\"{tracker}\"")),
        ("extra_statistics", "false".to_owned()),
        ("number_of_torrents", "100000".to_owned()),
        ("number_of_peers", PEERS.to_string()),
        ("weight_connect", "0".to_owned()),
        ("weight_scrape", "0".to_owned()),
    ];
    let mut file = NamedTempFile::new().map_err(|error| error.to_string())?;
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let name = line.split(" = ").next().unwrap_or_default();
        match settings.iter().find(|(setting, _)| *setting == name) {
            Some((_, value)) => writeln!(file, "{name} = {value}"),
            None => writeln!(file, "{line}"),
        }
        .map_err(|error| error.to_string())?;
    }
    Ok(file)
}

/// The running generator.
struct AquaticLoad {
    process: ChildProcess,
    output: BufReader<ChildStdout>,
}

impl AquaticLoad {
    fn start(generator: &str, config: &NamedTempFile) -> Result<Self, String> {
        let mut command = Command::new(generator);
        command.arg("-c").arg(config.path()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = ChildProcess(command.spawn().map_err(|error| error.to_string())?);
        let output = process.0.stdout.take().ok_or("the generator has no output")?;
        Ok(Self { process, output: BufReader::new(output) })
    }

    /// Waits for the next report. Returns the number of announces that were answered since the previous report.
    fn announces(&mut self) -> Result<f64, String> {
        let number = |line: &str, name| line.trim().strip_prefix(name)?.trim().parse::<f64>().ok();
        let mut answered = None;
        for line in (&mut self.output).lines() {
            let line = line.map_err(|error| error.to_string())?;
            answered = answered.or_else(|| number(&line, "- Announce responses:"));
            if let Some(errors) = number(&line, "- Error responses:") {
                return match answered {
                    Some(rate) if errors == 0.0 && rate > 0.0 => Ok(rate * INTERVAL),
                    _ => {
                        Err(format!("the generator got {errors} errors a second, and {answered:?} announce responses"))
                    }
                };
            }
        }
        Err("the generator ended".to_owned())
    }
}
