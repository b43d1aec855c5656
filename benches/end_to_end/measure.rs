//! Wall time, CPU time of both servers and of the client, and the client's memory.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::resource::{UsageWho, getrusage};

use crate::server::Server;
use crate::target::Target;

/// How often the client's peak memory is read. The kernel keeps the peak, so only its last moments can escape.
const MEMORY_POLL: Duration = Duration::from_millis(20);

/// What one walk over the data cost.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    pub wall_seconds: f64,
    pub source_cpu_seconds: f64,
    pub target_cpu_seconds: f64,
    pub client_cpu_seconds: f64,
    /// What everything else on the machine used meanwhile. Much of it, and the wall time means little.
    pub others_cpu_seconds: f64,
    /// Where the client is a process of its own.
    pub client_rss_bytes_max: Option<u64>,
}

/// Both servers, whose CPU time is read before and after.
pub struct Servers {
    pub source: Server,
    pub target: Target,
}

impl Servers {
    /// Measures something that this process does itself.
    pub fn cost_of<T>(&mut self, work: impl FnOnce() -> Result<T>) -> Result<(Cost, T)> {
        self.measure(UsageWho::RUSAGE_SELF, || Ok((work()?, None)))
    }

    /// Measures a run of redknot to its successful end. What it says on standard error goes to `said`.
    pub fn cost_of_child(&mut self, command: &mut Command, said: &Path) -> Result<Cost> {
        command
            .stdin(Stdio::null())
            .stderr(std::fs::File::create(said)?);
        let (cost, ()) = self.measure(UsageWho::RUSAGE_CHILDREN, || {
            let mut child = command
                .spawn()
                .with_context(|| format!("failed to run {command:?}"))?;
            let status_file = PathBuf::from(format!("/proc/{}/status", child.id()));
            let ended = AtomicBool::new(false);
            let (status, memory) = std::thread::scope(|scope| {
                let memory = scope.spawn(|| peak_memory(&status_file, &ended));
                let status = child.wait();
                ended.store(true, Ordering::Relaxed);
                memory.thread().unpark();
                (status, memory.join().ok().flatten())
            });
            let status = status?;
            if !status.success() {
                let said = std::fs::read_to_string(said).unwrap_or_default();
                bail!("{command:?}\nended with {status}\n{said}");
            }
            Ok(((), memory))
        })?;
        Ok(cost)
    }

    fn measure<T>(
        &mut self,
        client: UsageWho,
        work: impl FnOnce() -> Result<(T, Option<u64>)>,
    ) -> Result<(Cost, T)> {
        let source_before = self.source.cpu_seconds()?;
        let target_before = self.target.cpu_seconds()?;
        let client_before = cpu_seconds(client)?;
        let machine_before = machine_cpu_seconds();
        let began = Instant::now();
        let (value, client_rss_bytes_max) = work()?;
        let wall_seconds = began.elapsed().as_secs_f64();
        let machine = machine_cpu_seconds() - machine_before;
        let client = cpu_seconds(client)? - client_before;
        let source = self.source.cpu_seconds()? - source_before;
        let target = self.target.cpu_seconds()? - target_before;
        let cost = Cost {
            wall_seconds,
            source_cpu_seconds: source,
            target_cpu_seconds: target,
            client_cpu_seconds: client,
            others_cpu_seconds: (machine - source - target - client).max(0.0),
            client_rss_bytes_max,
        };
        Ok((cost, value))
    }
}

/// CPU seconds of this process, or of all its children that have ended.
fn cpu_seconds(who: UsageWho) -> Result<f64> {
    let usage = getrusage(who)?;
    let seconds =
        |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    Ok(seconds(usage.user_time()) + seconds(usage.system_time()))
}

/// CPU seconds that all processors have been busy, also for other machines (steal), in hundredths.
fn machine_cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let first = stat.lines().next().unwrap_or_default();
    // user nice system idle iowait irq softirq steal; then guests, which user and nice hold already.
    let ticks: Vec<f64> = first
        .split_whitespace()
        .skip(1)
        .filter_map(|ticks| ticks.parse().ok())
        .collect();
    let busy = ticks.iter().take(8).enumerate();
    busy.filter(|(at, _)| ![3, 4].contains(at))
        .map(|(_, ticks)| ticks / 100.0)
        .sum()
}

/// The most memory that a process had, as long as it could be read.
///
/// Not `ru_maxrss`, which begins with the memory of the process that forked: this one, with its recording.
fn peak_memory(status_file: &Path, ended: &AtomicBool) -> Option<u64> {
    let mut peak = None;
    while !ended.load(Ordering::Relaxed) {
        let status = std::fs::read_to_string(status_file).unwrap_or_default();
        let kibibytes = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok());
        // A process that has just been forked still has our memory; after `exec` it starts at zero.
        peak = kibibytes.map(|kibibytes| kibibytes << 10).or(peak);
        std::thread::park_timeout(MEMORY_POLL);
    }
    peak
}
