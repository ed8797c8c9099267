//! Reads CPU time and memory from the kernel, and pins programs to cores.

use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use procfs::process::Process;
use procfs::{Current as _, CurrentSI as _, KernelStats};
use rustix::thread::{CpuSet, gettid, sched_getaffinity, sched_setaffinity};

/// A figure is disturbed if other programs use more than this part of a core.
const MAX_DISTURBANCE: f64 = 0.10;

/// The cores that this process may use.
#[derive(Clone)]
pub struct Cores(Vec<usize>);

/// The cores that a program may run on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// The tracker's core.
    Server,
    /// The load generator's core.
    Load,
    /// Either of the two, as the kernel decides.
    Both,
}

impl Cores {
    pub fn of_this_process() -> Self {
        let set = sched_getaffinity(None).unwrap();
        Self((0..CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).collect())
    }

    /// Pins this thread to cores. Programs that the thread starts from now on inherit the cores.
    pub fn pin(&self, place: Placement) {
        let first = self.0[0];
        let second = self.0.get(1).copied().unwrap_or(first);
        let mut set = CpuSet::new();
        if place != Placement::Load {
            set.set(first);
        }
        if place != Placement::Server {
            set.set(second);
        }
        sched_setaffinity(None, &set).unwrap();
    }
}

/// What gets real-time priority. Without this priority, latencies would include the kernel's other work.
pub enum Priority {
    /// All threads of this process.
    Process(u32),
    ThisThread,
}

impl Priority {
    /// Raises the priority with `chrt` from util-linux, which needs root. Returns whether this succeeded.
    pub fn raise(&self) -> bool {
        let mut chrt = Command::new("chrt");
        match self {
            Self::Process(pid) => chrt.args(["--all-tasks", "--fifo", "--pid", "1", &pid.to_string()]),
            Self::ThisThread => chrt.args(["--fifo", "--pid", "1", &gettid().as_raw_pid().to_string()]),
        };
        chrt.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    }
}

/// The CPU time used so far.
pub struct CpuClock {
    at: Instant,
    trackers: Vec<u32>,
    helpers: Vec<u32>,
    tracker: Duration,
    helper: Duration,
    own: Duration,
    all_programs: Duration,
}

/// The CPU time used while something was measured.
#[derive(Clone, Copy)]
pub struct CpuUsage {
    pub tracker: Duration,
    /// The CPU time of the programs that help the tracker.
    pub helper: Duration,
    /// The CPU time of other programs, as a part of one core.
    pub others: f64,
}

impl CpuUsage {
    pub fn is_disturbed(&self) -> bool {
        self.others > MAX_DISTURBANCE
    }
}

impl CpuClock {
    pub fn start(trackers: &[u32]) -> Self {
        Self::start_beside(trackers, &[])
    }

    /// Starts a clock that also measures programs that help the tracker, such as its Redis. They disturb nothing.
    pub fn start_beside(trackers: &[u32], helpers: &[u32]) -> Self {
        Self {
            at: Instant::now(),
            trackers: trackers.to_vec(),
            helpers: helpers.to_vec(),
            tracker: trackers.iter().map(|&pid| cpu_time(&process(pid))).sum(),
            helper: helpers.iter().map(|&pid| cpu_time(&process(pid))).sum(),
            own: cpu_time(&Process::myself().unwrap()),
            all_programs: all_programs(),
        }
    }

    pub fn stop(&self) -> CpuUsage {
        let now = Self::start_beside(&self.trackers, &self.helpers);
        let tracker = now.tracker.saturating_sub(self.tracker);
        let helper = now.helper.saturating_sub(self.helper);
        let ours = tracker + helper + now.own.saturating_sub(self.own);
        let others = (now.all_programs.saturating_sub(self.all_programs)).saturating_sub(ours);
        CpuUsage { tracker, helper, others: others.as_secs_f64() / (now.at - self.at).as_secs_f64() }
    }
}

/// Waits until other programs are idle, for at most ten seconds.
pub fn wait_for_quiet(trackers: &[u32]) {
    const LONGEST: Duration = Duration::from_secs(10);
    const INTERVAL: Duration = Duration::from_millis(500);
    let start = Instant::now();
    while start.elapsed() < LONGEST {
        let clock = CpuClock::start(trackers);
        thread::sleep(INTERVAL);
        if !clock.stop().is_disturbed() {
            return;
        }
    }
}

/// Returns the CPU time of this thread.
pub fn thread_cpu_time() -> Duration {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap();
    time.into()
}

/// Returns the CPU time of the first thread of a process, in nanoseconds: more exactly than the clocks of whole processes.
pub fn main_thread_cpu_time(pid: u32) -> Duration {
    let text = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

/// Returns the resident memory of a process, in bytes.
pub fn resident(pid: u32) -> u64 {
    let rollup = process(pid).smaps_rollup().unwrap();
    rollup.memory_map_rollup.iter().filter_map(|map| map.extension.map.get("Rss")).sum()
}

pub fn process(pid: u32) -> Process {
    Process::new(pid.cast_signed()).unwrap()
}

/// Returns the user and system time of all threads of a process.
fn cpu_time(process: &Process) -> Duration {
    let stat = process.stat().unwrap();
    ticks(stat.utime + stat.stime)
}

fn all_programs() -> Duration {
    let total = KernelStats::current().unwrap().total;
    let rest = [total.irq, total.softirq, total.steal].into_iter().flatten().sum::<u64>();
    ticks(total.user + total.nice + total.system + rest)
}

fn ticks(ticks: u64) -> Duration {
    Duration::from_secs_f64(ticks as f64 / procfs::ticks_per_second() as f64)
}

/// Describes the kernel and the CPU, for readers of the figures.
pub fn describe(cores: &Cores) -> String {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let info = procfs::CpuInfo::current().ok();
    let model = info.as_ref().and_then(|info| info.model_name(0)).unwrap_or("unknown CPU");
    let cores = cores.0.len();
    format!("Linux {}, {cores} cores of {model}", kernel.trim())
}

pub fn today() -> String {
    let output = Command::new("date").args(["-u", "-I"]).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}
