//! How busy other programs keep the machine, as far as the system says.

use std::fs;

use upcycle_core::cost::MachineLoad;

/// Threads that have run for less are not judged, in nanoseconds.
const LEAST_RUN: u64 = 20_000_000;
/// The system counts processor time in hundredths of a second. Fewer of them are not judged.
const LEAST_TICKS: u64 = 10;

/// Measures the load of the machine from its start on. On systems other than Linux, nothing is known.
#[derive(Clone, Debug)]
pub struct LoadMeter {
    /// Threads of a pass.
    threads: usize,
    threads_before: Option<ThreadTimes>,
    processors_before: Option<ProcessorTimes>,
    fixed: Option<MachineLoad>,
}

/// Nanoseconds of all threads of this program.
#[derive(Clone, Copy, Debug, PartialEq)]
struct ThreadTimes {
    running: u64,
    waiting: u64,
}

/// Hundredths of a second of all processors.
#[derive(Clone, Copy, Debug, PartialEq)]
struct ProcessorTimes {
    count: usize,
    all: u64,
    /// Those that were not idle, and those that the hypervisor took.
    busy: u64,
    /// Those that this program used.
    own: u64,
}

impl LoadMeter {
    /// Starts to measure, for passes of so many threads.
    #[must_use]
    pub fn start(threads: usize) -> Self {
        let (threads_before, processors_before) = (ThreadTimes::now(), ProcessorTimes::now());
        Self { threads, threads_before, processors_before, fixed: None }
    }

    /// A meter that shows this load.
    #[cfg(test)]
    pub(crate) fn fixed(load: MachineLoad) -> Self {
        Self { threads: 1, threads_before: None, processors_before: None, fixed: Some(load) }
    }

    /// The load since the start.
    #[must_use]
    pub fn load(&self) -> MachineLoad {
        if let Some(load) = self.fixed {
            return load;
        }
        let threads = self.threads_before.zip(ThreadTimes::now());
        let processors = self.processors_before.zip(ProcessorTimes::now());
        MachineLoad {
            waited: threads.and_then(|(before, now)| now.waited_since(before)),
            taken: processors.and_then(|(before, now)| now.taken_since(before, self.threads)),
        }
    }
}

impl ThreadTimes {
    fn now() -> Option<Self> {
        let mut times = Self { running: 0, waiting: 0 };
        for thread in fs::read_dir("/proc/self/task").ok()?.flatten() {
            // The thread may have ended.
            let Ok(text) = fs::read_to_string(thread.path().join("schedstat")) else { continue };
            let mut numbers = text.split_ascii_whitespace().map(|number| number.parse().unwrap_or(0));
            times.running += numbers.next()?;
            times.waiting += numbers.next()?;
        }
        Some(times)
    }

    fn waited_since(self, before: Self) -> Option<f64> {
        let running = self.running.saturating_sub(before.running);
        let waiting = self.waiting.saturating_sub(before.waiting);
        (running + waiting >= LEAST_RUN).then(|| waiting as f64 / (running + waiting) as f64)
    }
}

impl ProcessorTimes {
    fn now() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/stat").ok()?, &fs::read_to_string("/proc/self/stat").ok()?)
    }

    /// From the texts of `/proc/stat` and of `/proc/self/stat`.
    fn parse(machine: &str, program: &str) -> Option<Self> {
        let mut lines = machine.lines().filter_map(|line| line.strip_prefix("cpu"));
        let total = lines.next()?;
        let numbers: Vec<u64> =
            total.split_ascii_whitespace().map_while(|number| number.parse().ok()).collect();
        let [user, nice, system, idle, waiting, irq, softirq, stolen, ..] = numbers[..] else { return None };
        let busy = user + nice + system + irq + softirq + stolen;
        // The name of the program may hold spaces and parentheses.
        let fields: Vec<&str> = program.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        let own = |index: usize| fields.get(index)?.parse::<u64>().ok();
        Some(Self { count: lines.count(), all: busy + idle + waiting, busy, own: own(11)? + own(12)? })
    }

    /// The processors that other programs used beyond those that `threads` threads of this one leave free.
    fn taken_since(self, before: Self, threads: usize) -> Option<f64> {
        let all = self.all.saturating_sub(before.all);
        if all < LEAST_TICKS * self.count as u64 || self.count == 0 {
            return None;
        }
        let busy = self.busy.saturating_sub(before.busy);
        let others = busy.saturating_sub(self.own.saturating_sub(before.own));
        let others = others as f64 / all as f64 * self.count as f64;
        Some((others - self.count.saturating_sub(threads) as f64).max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MACHINE: &str = "cpu  100 10 20 800 5 1 2 62 0 0\ncpu0 1 2\ncpu1 3 4\nintr 5\n";
    const PROGRAM: &str = "7 (a) (b c) S 1 2 3 4 5 6 7 8 9 10 60 30 0 0\n";

    #[test]
    fn the_texts_of_the_system_are_read() {
        let found = ProcessorTimes::parse(MACHINE, PROGRAM).unwrap();
        assert_eq!(found, ProcessorTimes { count: 2, all: 1000, busy: 195, own: 90 });
        assert_eq!(ProcessorTimes::parse("", PROGRAM), None);
        assert_eq!(ProcessorTimes::parse(MACHINE, "7 (a"), None);
    }

    #[test]
    fn other_programs_take_only_what_this_one_needs() {
        let before = ProcessorTimes { count: 4, all: 0, busy: 0, own: 0 };
        let after = |busy, own| ProcessorTimes { all: 400, busy, own, ..before };
        // One second of four processors: others use one of them.
        assert_eq!(after(300, 200).taken_since(before, 2), Some(0.0));
        assert_eq!(after(300, 200).taken_since(before, 4), Some(1.0));
        assert_eq!(after(400, 100).taken_since(before, 2), Some(1.0));
        assert_eq!(before.taken_since(before, 2), None, "no time has passed");
    }

    #[test]
    fn waiting_is_a_share_of_the_time_that_threads_want() {
        let before = ThreadTimes { running: 1_000, waiting: 1_000 };
        let after = ThreadTimes { running: 30_001_000, waiting: 10_001_000 };
        assert_eq!(after.waited_since(before), Some(0.25));
        assert_eq!(before.waited_since(before), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_machine_can_be_read() {
        assert!(ProcessorTimes::now().is_some());
    }
}
