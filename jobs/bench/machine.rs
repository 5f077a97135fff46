//! The machine under the bench, and what this process took of it.

use std::fs::read_to_string;
use std::time::Duration;

use serde::Serialize;

/// What a figure is worth nothing without.
#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    pub version: &'static str,
    /// Built with optimisation.
    pub optimised: bool,
    pub cpu: String,
    pub cores: usize,
    pub memory_mib: u64,
    /// Processes that wanted to run, on average over the last minute, when the bench began.
    pub load: String,
}

impl Machine {
    pub fn look() -> Self {
        let cpu = field("/proc/cpuinfo", "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned());
        let load = read_to_string("/proc/loadavg").unwrap_or_default();
        Self {
            version: env!("CARGO_PKG_VERSION"),
            optimised: !cfg!(debug_assertions),
            cpu,
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_mib: kibibytes("/proc/meminfo", "MemTotal").unwrap_or(0) / 1024,
            load: load.split(' ').next().unwrap_or_default().to_owned(),
        }
    }

    pub fn line(&self) -> String {
        let Self { version, cpu, cores, memory_mib, load, .. } = self;
        let build = if self.optimised { "" } else { ", built without optimisation" };
        format!("assay {version}{build} on {cores} cores of {cpu}, {memory_mib} MiB, load {load}")
    }
}

/// CPU time of this process, ended threads included, or of the calling thread.
#[derive(Debug, Clone, Copy)]
pub enum Cpu {
    Process,
    Thread,
}

impl Cpu {
    /// Microseconds would be too coarse for a stage that takes some nanoseconds a row. Zero where there is no such clock.
    #[cfg(unix)]
    #[allow(unsafe_code, reason = "the standard library has no clock of CPU time")]
    pub fn ns(self) -> u64 {
        let clock = match self {
            Self::Process => libc::CLOCK_PROCESS_CPUTIME_ID,
            Self::Thread => libc::CLOCK_THREAD_CPUTIME_ID,
        };
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `time` is a valid timespec, and the call writes nothing else.
        if unsafe { libc::clock_gettime(clock, &raw mut time) } != 0 {
            return 0;
        }
        u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
    }

    #[cfg(not(unix))]
    pub fn ns(self) -> u64 {
        0
    }

    pub fn time(self) -> Duration {
        Duration::from_nanos(self.ns())
    }
}

/// CPU time of the living threads of this process whose name begins so.
pub fn cpu_of_threads(name: &str) -> Duration {
    let Ok(threads) = std::fs::read_dir("/proc/self/task") else { return Duration::ZERO };
    let run = threads.flatten().filter_map(|thread| {
        let folder = thread.path();
        let named = read_to_string(folder.join("comm")).ok()?.starts_with(name);
        let ns = read_to_string(folder.join("schedstat")).ok()?.split(' ').next()?.parse::<u64>().ok()?;
        named.then(|| Duration::from_nanos(ns))
    });
    run.sum()
}

/// Resident memory now, in MiB.
pub fn rss_mib() -> u64 {
    kibibytes("/proc/self/status", "VmRSS").unwrap_or(0) / 1024
}

/// The most resident memory so far, in MiB.
pub fn peak_rss_mib() -> u64 {
    kibibytes("/proc/self/status", "VmHWM").unwrap_or(0) / 1024
}

fn kibibytes(file: &str, name: &str) -> Option<u64> {
    field(file, name)?.strip_suffix("kB")?.trim().parse().ok()
}

fn field(file: &str, name: &str) -> Option<String> {
    let text = read_to_string(file).ok()?;
    text.lines().find_map(|line| Some(line.strip_prefix(name)?.trim_start().strip_prefix(':')?.trim().to_owned()))
}
