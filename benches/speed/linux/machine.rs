//! What the machine says: who has used how much of its cores, and what memory a program has.

use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use procfs::process::Process;
use procfs::{Current as _, CurrentSI as _, KernelStats};
use rustix::thread::{CpuSet, gettid, sched_getaffinity, sched_setaffinity};

/// More than this part of a core for anybody else spoils a figure.
const DISTURBANCE: f64 = 0.10;

/// The cores that this process may use.
#[derive(Clone)]
pub(crate) struct Cores(Vec<usize>);

/// Where a program runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// The tracker's core.
    Server,
    /// The load generator's core.
    Load,
    /// Wherever the kernel likes, on the two of them.
    Both,
}

impl Cores {
    pub(crate) fn of_this_process() -> Self {
        let set = sched_getaffinity(None).unwrap();
        Self((0..CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).collect())
    }

    /// Puts this thread there, and what it starts from now on.
    pub(crate) fn stay(&self, place: Place) {
        let first = self.0[0];
        let second = self.0.get(1).copied().unwrap_or(first);
        let mut set = CpuSet::new();
        if place != Place::Load {
            set.set(first);
        }
        if place != Place::Server {
            set.set(second);
        }
        sched_setaffinity(None, &set).unwrap();
    }
}

/// Who is to go before whatever else the machine has to do, as latencies would be those of the kernel's own chores otherwise.
pub(crate) enum First {
    /// All threads of this process.
    Process(u32),
    ThisThread,
}

impl First {
    /// Takes root and util-linux. Tells whether it could be done.
    pub(crate) fn goes(&self) -> bool {
        let mut chrt = Command::new("chrt");
        match self {
            Self::Process(pid) => chrt.args(["--all-tasks", "--fifo", "--pid", "1", &pid.to_string()]),
            Self::ThisThread => chrt.args(["--fifo", "--pid", "1", &gettid().as_raw_pid().to_string()]),
        };
        chrt.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    }
}

/// The CPU time used so far.
pub(crate) struct Clock {
    at: Instant,
    trackers: Vec<u32>,
    tracker: Duration,
    own: Duration,
    everybody: Duration,
}

/// The CPU time used while something was measured.
#[derive(Clone, Copy)]
pub(crate) struct Spent {
    pub(crate) tracker: Duration,
    /// By programs that have nothing to do with it, as a part of a core.
    pub(crate) others: f64,
}

impl Spent {
    pub(crate) fn is_disturbed(&self) -> bool {
        self.others > DISTURBANCE
    }
}

impl Clock {
    pub(crate) fn start(trackers: &[u32]) -> Self {
        Self {
            at: Instant::now(),
            trackers: trackers.to_vec(),
            tracker: trackers.iter().map(|&pid| used(&process(pid))).sum(),
            own: used(&Process::myself().unwrap()),
            everybody: everybody(),
        }
    }

    pub(crate) fn stop(&self) -> Spent {
        let now = Self::start(&self.trackers);
        let tracker = now.tracker.saturating_sub(self.tracker);
        let ours = tracker + now.own.saturating_sub(self.own);
        let others = (now.everybody.saturating_sub(self.everybody)).saturating_sub(ours);
        Spent { tracker, others: others.as_secs_f64() / (now.at - self.at).as_secs_f64() }
    }
}

/// Waits until the machine has nothing to do, but not for ever: it may never be so.
pub(crate) fn wait_for_quiet(trackers: &[u32]) {
    const PATIENCE: Duration = Duration::from_secs(10);
    const LOOK: Duration = Duration::from_millis(500);
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        let clock = Clock::start(trackers);
        thread::sleep(LOOK);
        if !clock.stop().is_disturbed() {
            return;
        }
    }
}

/// What a process has in memory, in bytes.
pub(crate) fn resident(pid: u32) -> u64 {
    let rollup = process(pid).smaps_rollup().unwrap();
    rollup.memory_map_rollup.iter().filter_map(|map| map.extension.map.get("Rss")).sum()
}

pub(crate) fn process(pid: u32) -> Process {
    Process::new(pid.cast_signed()).unwrap()
}

/// By all threads of a process.
fn used(process: &Process) -> Duration {
    let stat = process.stat().unwrap();
    ticks(stat.utime + stat.stime)
}

fn everybody() -> Duration {
    let total = KernelStats::current().unwrap().total;
    let rest = [total.irq, total.softirq, total.steal].into_iter().flatten().sum::<u64>();
    ticks(total.user + total.nice + total.system + rest)
}

fn ticks(ticks: u64) -> Duration {
    Duration::from_secs_f64(ticks as f64 / procfs::ticks_per_second() as f64)
}

/// What a reader has to know of the machine that figures come from.
pub(crate) fn describe(cores: &Cores) -> String {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let info = procfs::CpuInfo::current().ok();
    let model = info.as_ref().and_then(|info| info.model_name(0)).unwrap_or("unknown CPU");
    let cores = cores.0.len();
    format!("Linux {}, {cores} cores of {model}", kernel.trim())
}

pub(crate) fn today() -> String {
    let output = Command::new("date").args(["-u", "-I"]).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}
