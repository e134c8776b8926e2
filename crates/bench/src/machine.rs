//! The machine, and how busy other programs keep it.

use std::fmt;
use std::thread;
use std::time::Duration;

use serde::Serialize;
use upcycle_kernels::Kernels;

use crate::results::{Build, Machine};

/// The instruction sets that matter for the cost of a pass.
const FLAGS: [&str; 14] = [
    "avx",
    "avx2",
    "fma",
    "f16c",
    "avx_vnni",
    "avx512f",
    "avx512bw",
    "avx512vl",
    "avx512_vnni",
    "avx512_bf16",
    "amx_int8",
    "asimddp",
    "i8mm",
    "sve",
];

/// Describes this machine. The fields about the end of a run are empty.
#[must_use]
pub fn describe() -> Machine {
    Machine {
        processors: thread::available_parallelism().map_or(1, usize::from),
        system: system::name(),
        cpu: system::cpu(),
        flags: system::flags(),
        memory: system::memory(),
        load_start: system::load(),
        load_end: None,
        others_busy: None,
    }
}

/// This program.
#[must_use]
pub fn build() -> Build {
    let revision = git_version::git_version!(
        args = ["--always", "--abbrev=12", "--exclude=*", "--dirty=-dirty"],
        fallback = ""
    );
    Build {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        revision: (!revision.is_empty()).then(|| revision.to_owned()),
        profile: if cfg!(debug_assertions) { "debug" } else { "release" }.to_owned(),
    }
}

/// The machine's limits for `threads` threads (by default, one for each physical core).
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct MachineLimits {
    /// The threads.
    pub threads: usize,
    /// Bytes of memory read a second; none if there is no memory to measure with.
    pub memory_bandwidth: Option<f64>,
    /// Multiply-adds of int8 a second in registers; none where it cannot be measured.
    pub int8_peak: Option<f64>,
}

/// Measures the limits. Takes about a second.
#[must_use]
pub fn limits(threads: Option<usize>) -> Option<MachineLimits> {
    let kernels = Kernels::new(threads.unwrap_or(0)).ok()?;
    Some(MachineLimits {
        threads: kernels.pool().threads(),
        memory_bandwidth: kernels.memory_bandwidth().ok(),
        int8_peak: kernels.int8_peak(),
    })
}

impl fmt::Display for MachineLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number =
            |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{:.1}", value / 1e9));
        let Self { threads, memory_bandwidth, int8_peak } = *self;
        let (memory, int8) = (number(memory_bandwidth), number(int8_peak));
        write!(
            f,
            "{threads} threads read {memory} GB/s of memory and do {int8} G int8 multiply-adds a second in registers"
        )
    }
}

/// Load averages over 1, 5 and 15 minutes, if the system provides them.
#[must_use]
pub fn load() -> Option<[f64; 3]> {
    system::load()
}

/// The largest resident set of a process since it was last [reset](reset_peak_memory); `None` is this process.
#[must_use]
pub fn peak_memory(process: Option<u32>) -> Option<u64> {
    system::peak_memory(process)
}

/// Resets the largest resident set of a process, if the system can; `None` is this process.
pub fn reset_peak_memory(process: Option<u32>) {
    system::reset_peak_memory(process);
}

/// The resident set of this process.
#[must_use]
pub fn resident_memory() -> Option<u64> {
    system::resident_memory()
}

/// Processor time of the machine and of this run.
#[derive(Clone, Copy, Debug)]
pub struct CpuUsage {
    /// Seconds since the machine started, times the number of processors.
    all: f64,
    /// Busy seconds, including those that the hypervisor took away.
    busy: f64,
    /// Busy seconds of this run.
    own: f64,
}

impl CpuUsage {
    /// The processor time so far. `peers` are other processes of this run. None if the system does not provide it.
    #[must_use]
    pub fn now(peers: &[u32]) -> Option<Self> {
        system::usage(peers)
    }

    /// Mean number of processors kept busy by other programs since `before`; none if too little time has passed.
    #[must_use]
    pub fn other_programs_load(&self, before: &CpuUsage, processors: usize) -> Option<f64> {
        let all = self.all - before.all;
        // The system counts in hundredths of a second.
        if all < 0.2 * processors as f64 {
            return None;
        }
        let others = (self.busy - before.busy) - (self.own - before.own);
        Some((others / all * processors as f64).max(0.0))
    }
}

/// Mean number of processors that other programs keep busy during `pause`.
#[must_use]
pub fn busy_during(pause: Duration, peers: &[u32]) -> Option<f64> {
    let before = CpuUsage::now(peers)?;
    thread::sleep(pause);
    CpuUsage::now(peers)?.other_programs_load(&before, thread::available_parallelism().map_or(1, usize::from))
}

#[cfg(target_os = "linux")]
mod system {
    use std::fs;

    use procfs::process::Process;
    use procfs::{Current, CurrentSI};

    use super::{CpuUsage, FLAGS};

    fn cpu_info(fields: &[&str]) -> Option<String> {
        let info = procfs::CpuInfo::current().ok()?;
        fields
            .iter()
            .find_map(|&field| info.get_info(0).and_then(|cpu| cpu.get(field).map(|s| (*s).to_owned())))
    }

    pub(super) fn cpu() -> String {
        cpu_info(&["model name", "Processor", "CPU part"])
            .unwrap_or_else(|| std::env::consts::ARCH.to_owned())
    }

    pub(super) fn flags() -> Vec<String> {
        let all = cpu_info(&["flags", "Features"]).unwrap_or_default();
        let has = |flag: &&&str| all.split_ascii_whitespace().any(|word| word == **flag);
        FLAGS.iter().filter(has).map(|&flag| flag.to_owned()).collect()
    }

    pub(super) fn name() -> String {
        let release = procfs::sys::kernel::Version::current();
        match release {
            Ok(version) => format!("linux {}.{}.{}", version.major, version.minor, version.patch),
            Err(_) => "linux".to_owned(),
        }
    }

    pub(super) fn memory() -> u64 {
        procfs::Meminfo::current().map_or(0, |info| info.mem_total)
    }

    pub(super) fn load() -> Option<[f64; 3]> {
        let load = procfs::LoadAverage::current().ok()?;
        Some([load.one, load.five, load.fifteen].map(|value| (f64::from(value) * 100.0).round() / 100.0))
    }

    fn process(id: Option<u32>) -> Option<Process> {
        match id {
            None => Process::myself().ok(),
            Some(id) => Process::new(i32::try_from(id).ok()?).ok(),
        }
    }

    pub(super) fn peak_memory(id: Option<u32>) -> Option<u64> {
        process(id)?.status().ok()?.vmhwm.map(|kilobytes| kilobytes * 1024)
    }

    pub(super) fn resident_memory() -> Option<u64> {
        process(None)?.status().ok()?.vmrss.map(|kilobytes| kilobytes * 1024)
    }

    pub(super) fn reset_peak_memory(id: Option<u32>) {
        let process = id.map_or_else(|| "self".to_owned(), |id| id.to_string());
        // 5 resets the high-water mark (see proc(5)). If that is forbidden, the mark covers a longer time.
        let _ = fs::write(format!("/proc/{process}/clear_refs"), "5");
    }

    pub(super) fn usage(peers: &[u32]) -> Option<CpuUsage> {
        let ticks = procfs::ticks_per_second() as f64;
        let total = procfs::KernelStats::current().ok()?.total;
        let seconds = |ticks_spent: u64| ticks_spent as f64 / ticks;
        let busy = total.user
            + total.nice
            + total.system
            + total.irq.unwrap_or(0)
            + total.softirq.unwrap_or(0)
            + total.steal.unwrap_or(0);
        let idle = total.idle + total.iowait.unwrap_or(0);
        let mut own = 0;
        for id in std::iter::once(None).chain(peers.iter().copied().map(Some)) {
            let stat = process(id).and_then(|process| process.stat().ok());
            own += stat.map_or(0, |stat| stat.utime + stat.stime);
        }
        Some(CpuUsage { all: seconds(busy + idle), busy: seconds(busy), own: seconds(own) })
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use super::CpuUsage;

    pub(super) fn cpu() -> String {
        std::env::consts::ARCH.to_owned()
    }
    pub(super) fn flags() -> Vec<String> {
        Vec::new()
    }
    pub(super) fn name() -> String {
        std::env::consts::OS.to_owned()
    }
    pub(super) fn memory() -> u64 {
        0
    }
    pub(super) fn load() -> Option<[f64; 3]> {
        None
    }
    pub(super) fn peak_memory(_: Option<u32>) -> Option<u64> {
        None
    }
    pub(super) fn resident_memory() -> Option<u64> {
        None
    }
    pub(super) fn reset_peak_memory(_: Option<u32>) {}
    pub(super) fn usage(_: &[u32]) -> Option<CpuUsage> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_run_is_not_counted_as_other_programs() {
        let before = CpuUsage { all: 100.0, busy: 10.0, own: 5.0 };
        let after = CpuUsage { all: 120.0, busy: 25.0, own: 15.0 };
        // 20 seconds of 2 processors are 10 seconds; others worked 5 of them.
        assert_eq!(after.other_programs_load(&before, 2), Some(0.5));
        assert_eq!(before.other_programs_load(&before, 2), None, "no time has passed");
        let ours_alone = CpuUsage { own: 25.0, ..after };
        assert_eq!(ours_alone.other_programs_load(&before, 2), Some(0.0));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_machine_is_known() {
        let machine = describe();
        assert!(machine.memory > 1 << 20 && !machine.cpu.is_empty(), "{machine:?}");
        assert!(peak_memory(None).unwrap() >= resident_memory().unwrap() / 2);
        assert!(CpuUsage::now(&[]).is_some());
    }
}
