//! The instances, which write to a real Redis and read from it. Only time is simulated.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use load::machine::{CpuClock, main_thread_cpu_time, thread_cpu_time};
use load::redis::RedisProcess;
use redis::{Connection, Pipeline, Value, pipe};
use retracker::share::{PARTITIONS, Partition, ShareGate};

use super::clients::{self, AnnounceWindow};
use super::instance::{LogPosition, SimulatedInstance};
use super::receiver::MeasuredReceiver;
use super::scenario::{GrowthScenario, PEER_AGE};

/// How often an instance writes and reads.
const TICK: Duration = Duration::from_millis(100);

/// At most this many full batches are written in one exchange, and this many batches are read from each log.
pub(crate) const MOST_BATCHES: usize = 32;

/// What it cost to share the announces of the window.
pub(crate) struct GrowthCost {
    pub(crate) records: u64,
    pub(crate) batches: u64,
    /// Bytes of all batches.
    pub(crate) bytes: u64,
    /// The part of a core that the Redis takes.
    pub(crate) redis_cpu: f64,
    /// Whether other programs disturbed the measurement.
    pub(crate) is_disturbed: bool,
    /// Bytes of the Redis' memory for each record.
    pub(crate) bytes_per_record: f64,
    /// The part of a core that an instance takes to write its own records, and to read and apply all others.
    pub(crate) instance_cpu: f64,
    /// The CPU time that an instance takes to apply a record.
    pub(crate) applying: Duration,
    /// Milliseconds from an announce until another instance has applied its record: the median, and the longest time.
    pub(crate) lag: (f64, f64),
    /// Exchanges after which an instance still has something to read or to write. Its next exchange follows at once.
    pub(crate) behind: u64,
}

/// The instances and their Redis.
pub(crate) struct SimulatedFleet {
    scenario: GrowthScenario,
    redis: RedisProcess,
    instances: Vec<SimulatedInstance>,
    receiver: MeasuredReceiver,
    /// The simulated time when the Redis has answered all requests so far.
    redis_free: Duration,
    /// The CPU time that the Redis had used when it last answered.
    redis_cpu: Duration,
    batches: u64,
    bytes: u64,
    behind: u64,
}

impl SimulatedFleet {
    pub(crate) fn start(scenario: GrowthScenario, window: &AnnounceWindow) -> Result<Self, String> {
        let redis = RedisProcess::start()?;
        let client = redis::Client::open(redis.url()).map_err(|error| error.to_string())?;
        let connect = |_| client.get_connection().map_err(|error| error.to_string());
        let connections = (0..scenario.instances).map(connect).collect::<Result<Vec<Connection>, _>>()?;
        let mut instances: Vec<_> = connections.into_iter().zip(0..).map(SimulatedInstance::new).collect();
        for shared in &window.shared {
            instances[shared.instance].announces.push_back(*shared);
        }
        let receiver = MeasuredReceiver::new(scenario, &window.shared);
        let (redis_free, redis_cpu) = (Duration::ZERO, main_thread_cpu_time(redis.pid()));
        Ok(Self { scenario, redis, instances, receiver, redis_free, redis_cpu, batches: 0, bytes: 0, behind: 0 })
    }

    /// Lets the instances share what they have heard within the window. Their exchanges are spread evenly over each
    /// tick.
    pub(crate) fn run(mut self, length: Duration) -> Result<GrowthCost, String> {
        let count = self.instances.len();
        let records = self.instances.iter().map(|instance| instance.announces.len() as u64).sum();
        let first = |n: usize| TICK * n as u32 / count as u32;
        let mut due: BinaryHeap<_> = (0..count).map(|n| Reverse((first(n), n))).collect();
        let clock = CpuClock::start_beside(&[], &[self.redis.pid()]);
        let before = self.redis_cpu;
        while let Some(Reverse((now, number))) = due.pop() {
            if now > length + TICK {
                continue;
            }
            let next = self.exchange(number, now).map_err(|error| error.to_string())?;
            due.push(Reverse((next, number)));
        }
        let spent = clock.stop();
        let written: u64 = self.instances.iter().map(|instance| instance.written_records).sum();
        Ok(GrowthCost {
            records,
            batches: self.batches,
            bytes: self.bytes,
            redis_cpu: self.redis_cpu.saturating_sub(before).as_secs_f64() / length.as_secs_f64(),
            is_disturbed: spent.is_disturbed(),
            bytes_per_record: self.memory()? as f64 / written.max(1) as f64,
            instance_cpu: self.receiver.busy.as_secs_f64() / length.as_secs_f64(),
            applying: self.receiver.applying(),
            lag: self.receiver.lag(),
            behind: self.behind,
        })
    }

    /// Lets one instance write and read. Returns the time of its next exchange.
    fn exchange(&mut self, number: usize, now: Duration) -> redis::RedisResult<Duration> {
        let scenario = self.scenario;
        let instance = &mut self.instances[number];
        instance.hear_until(now, |announce| clients::record(scenario, announce));
        let mut commands = pipe();
        for (partition, bytes) in instance.take_batches(now) {
            self.batches += 1;
            self.bytes += bytes.len() as u64;
            write(&mut commands, partition, &bytes);
        }
        read(&mut commands, &instance.positions);
        let own = thread_cpu_time();
        let replies: Vec<Value> = commands.query(&mut instance.connection)?;
        let own = thread_cpu_time().saturating_sub(own);
        // The Redis serves one instance after the other, but all instances can work at the same time. The CPU time is
        // taken as the duration, because other programs on this machine would lengthen the elapsed time.
        let redis_cpu = main_thread_cpu_time(self.redis.pid());
        self.redis_free = self.redis_free.max(now) + redis_cpu.saturating_sub(self.redis_cpu);
        self.redis_cpu = redis_cpu;
        let mut done = self.redis_free + own;
        let news = instance.read(replies.last().unwrap_or(&Value::Nil));
        if number == 0 {
            self.receiver.busy += own;
            done = self.receiver.receive(done, &news.batches);
        } else {
            // All instances read much the same records, so only instance 0 applies them. The others count its average
            // time.
            let records: usize = news.batches.iter().map(|batch| SimulatedInstance::records_in(batch)).sum();
            done += self.receiver.applying() * records as u32;
        }
        let is_behind = news.is_behind || instance.has_unsent();
        self.behind += u64::from(is_behind);
        Ok(if is_behind { done } else { done.max(now + TICK) })
    }

    fn memory(&self) -> Result<u64, String> {
        Partition::all().try_fold(0, |sum, partition| {
            let reply = self.redis.ask(&format!("MEMORY USAGE {} SAMPLES 0", key(partition)));
            let reply = reply.map_err(|error| error.to_string())?;
            // A log without entries has no key, and so no size.
            Ok(sum + reply.trim().strip_prefix(':').and_then(|bytes| bytes.parse::<u64>().ok()).unwrap_or(0))
        })
    }
}

/// How long the logs keep a record.
pub(crate) fn retention(scenario: GrowthScenario) -> Duration {
    ShareGate::retention(PEER_AGE, scenario.interval)
}

fn key(partition: Partition) -> String {
    format!("retracker:{{{}}}:log", partition.number())
}

/// Writes a batch to its log as the tracker does. Trims no entries, because the window is short.
fn write(commands: &mut Pipeline, partition: Partition, bytes: &[u8]) {
    commands.cmd("XADD").arg(key(partition)).arg("MINID").arg("~").arg(1).arg("*").arg("b").arg(bytes);
}

fn read(commands: &mut Pipeline, positions: &[LogPosition; PARTITIONS]) {
    commands.cmd("XREAD").arg("COUNT").arg(MOST_BATCHES).arg("STREAMS");
    Partition::all().for_each(|partition| {
        commands.arg(key(partition));
    });
    positions.iter().for_each(|position| {
        commands.arg(position);
    });
}
