//! Threads that share the tasks of one operation at a time.
//!
//! A forward pass has about 150 operations of about ten microseconds, so starting one must cost less than a microsecond. Workers spin
//! briefly between operations and then park. The caller works too, and waits only for workers that have joined. A worker that the system
//! has suspended delays nothing, so a busy machine stays usable.
//!
//! Each thread starts with a share of consecutive tasks, which it takes from the front. A thread without tasks steals half of another
//! share, from the back. So a thread reads weights front to back, prefetched data reaches the right cache, and threads contend for a cache
//! line only when a share runs out.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle, Thread};

/// Polls before a worker yields: about ten microseconds, the pause between two operations.
const SPINS: u32 = 2000;
/// Polls with a yield before a worker parks: about a hundred microseconds, the pause between two passes, in which a draft grows. Waking a
/// parked worker takes as long.
const YIELDS: u32 = 400;

/// The bit of `state` that lets workers join the current operation. The bits below count workers inside; the bits above count
/// operations.
const OPEN: u64 = 1 << 31;
const INSIDE: u64 = OPEN - 1;
const EPOCH: u64 = 1 << 32;

type Job<'a> = dyn Fn(Range<usize>) + Sync + 'a;

/// The most tasks of an operation: one atomic holds both ends of a share.
const MOST: usize = u32::MAX as usize;

/// The remaining tasks of a thread, `end << 32 | start`, on cache lines of their own.
#[repr(align(128))]
struct Share(AtomicU64);

impl Share {
    fn set(&self, tasks: Range<usize>) {
        self.0.store(pack(&tasks), Ordering::Relaxed);
    }

    /// Takes up to `most` tasks from the front.
    fn take(&self, most: usize) -> Option<Range<usize>> {
        self.split(|tasks| tasks.start + most.min(tasks.len()), |tasks, at| (tasks.start..at, at..tasks.end))
    }

    /// Takes half of the tasks, or the only one, from the back.
    fn steal(&self) -> Option<Range<usize>> {
        self.split(|tasks| tasks.start + tasks.len() / 2, |tasks, at| (at..tasks.end, tasks.start..at))
    }

    /// Splits the tasks at `place` into the two results of `part`: returns the first and keeps the second.
    fn split(
        &self,
        place: impl Fn(&Range<usize>) -> usize,
        part: impl Fn(Range<usize>, usize) -> (Range<usize>, Range<usize>),
    ) -> Option<Range<usize>> {
        let mut seen = self.0.load(Ordering::Relaxed);
        loop {
            let tasks = unpack(seen);
            if tasks.is_empty() {
                return None;
            }
            let at = place(&tasks);
            let (taken, left) = part(tasks, at);
            match self.0.compare_exchange_weak(seen, pack(&left), Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Some(taken),
                Err(now) => seen = now,
            }
        }
    }
}

fn pack(tasks: &Range<usize>) -> u64 {
    (tasks.end as u64) << 32 | tasks.start as u64
}

fn unpack(share: u64) -> Range<usize> {
    (share as u32) as usize..(share >> 32) as usize
}

struct Shared {
    state: AtomicU64,
    /// The current operation. Only workers inside it read this.
    job: Mutex<Option<*const Job<'static>>>,
    /// The tasks of each thread, the caller's first.
    shares: Vec<Share>,
    /// Tasks that a thread takes at a time.
    grain: AtomicU64,
    parked: Vec<AtomicBool>,
    stop: AtomicBool,
    panicked: AtomicBool,
}

// SAFETY: the pointer in `job` is only followed by workers that joined the operation while it was open, and `run` does
// not return, and thus keeps the closure alive, until all of them have left; the closure is `Sync`.
unsafe impl Send for Shared {}
// SAFETY: as above; everything else is atomic or behind a lock.
unsafe impl Sync for Shared {}

/// A pool of threads that runs one operation at a time; the calling thread is one of them.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<(Thread, Option<JoinHandle<()>>)>,
    running: Mutex<()>,
}

impl Pool {
    /// A pool of `threads` threads, including the caller; 0 counts as 1.
    ///
    /// If the system refuses to start a worker, the pool has fewer threads.
    #[must_use]
    pub fn new(threads: usize) -> Self {
        let count = threads.max(1) - 1;
        let shared = Arc::new(Shared {
            state: AtomicU64::new(0),
            job: Mutex::new(None),
            shares: (0..=count).map(|_| Share(AtomicU64::new(0))).collect(),
            grain: AtomicU64::new(1),
            parked: (0..count).map(|_| AtomicBool::new(false)).collect(),
            stop: AtomicBool::new(false),
            panicked: AtomicBool::new(false),
        });
        let workers = (0..count)
            .map_while(|index| {
                let shared = Arc::clone(&shared);
                let name = format!("upcycle-{}", index + 1);
                thread::Builder::new().name(name).spawn(move || work(&shared, index)).ok()
            })
            .map(|handle| (handle.thread().clone(), Some(handle)))
            .collect();
        Self { shared, workers, running: Mutex::new(()) }
    }

    /// The number of threads, including the caller.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Runs `job` for every task in `0..tasks`, in any order and on any thread, and returns when all are done. The tasks of a thread are
    /// mostly consecutive.
    ///
    /// # Panics
    /// If a task panics (the others still run), or if there are 2^32 tasks or more.
    pub fn run(&self, tasks: usize, job: impl Fn(usize) + Sync) {
        self.run_ranges(tasks, 1, |range| range.for_each(&job));
    }

    /// As [`run`](Self::run), for up to `grain` consecutive tasks at a time (0 counts as 1).
    ///
    /// # Panics
    /// As [`run`](Self::run), but the other tasks in a range that panics may not run.
    pub fn run_ranges(&self, tasks: usize, grain: usize, job: impl Fn(Range<usize>) + Sync) {
        let grain = grain.max(1);
        if self.workers.is_empty() || tasks <= 1 {
            (0..tasks).step_by(grain).for_each(|start| job(start..tasks.min(start + grain)));
            return;
        }
        assert!(tasks <= MOST, "{tasks} tasks; at most {MOST} can be shared");
        let _running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = &*self.shared;
        let job: &Job<'_> = &job;
        // SAFETY: only the lifetime changes, and no worker follows the pointer after this function returns.
        let erased = unsafe { std::mem::transmute::<*const Job<'_>, *const Job<'static>>(job) };
        *shared.job.lock().unwrap_or_else(PoisonError::into_inner) = Some(erased);
        let threads = self.threads();
        let part = |thread: usize| (tasks as u64 * thread as u64 / threads as u64) as usize;
        for (thread, share) in shared.shares.iter().enumerate().take(threads) {
            share.set(part(thread)..part(thread + 1));
        }
        shared.grain.store(grain as u64, Ordering::Relaxed);
        // No worker is inside, so the low bits are 0.
        let epoch = (shared.state.load(Ordering::Relaxed) & !(EPOCH - 1)).wrapping_add(EPOCH);
        shared.state.store(epoch | OPEN, Ordering::SeqCst);
        for ((worker, _), parked) in self.workers.iter().zip(&shared.parked) {
            if parked.swap(false, Ordering::SeqCst) {
                worker.unpark();
            }
        }
        claim(shared, 0, job);
        shared.state.fetch_and(!OPEN, Ordering::SeqCst);
        let mut spins = 0_u32;
        while shared.state.load(Ordering::Acquire) & INSIDE != 0 {
            spins = spins.saturating_add(1);
            if spins < SPINS { std::hint::spin_loop() } else { thread::yield_now() }
        }
        assert!(!shared.panicked.swap(false, Ordering::Relaxed), "a task of the pool panicked");
    }
}

/// Runs tasks until none is left: the thread's own, then those of others.
fn claim(shared: &Shared, thread: usize, job: &Job<'_>) {
    let grain = shared.grain.load(Ordering::Relaxed) as usize;
    let own = &shared.shares[thread];
    loop {
        while let Some(tasks) = own.take(grain) {
            if catch_unwind(AssertUnwindSafe(|| job(tasks))).is_err() {
                shared.panicked.store(true, Ordering::Relaxed);
            }
        }
        let others = (1..shared.shares.len()).map(|way| (thread + way) % shared.shares.len());
        match others.filter_map(|other| shared.shares[other].steal()).next() {
            // Now others can steal from it in turn.
            Some(tasks) => own.set(tasks),
            None => return,
        }
    }
}

fn work(shared: &Shared, index: usize) {
    let mut seen = 0;
    while let Some(epoch) = wait(shared, index, seen) {
        seen = epoch;
        // `run` waits for this worker, so the job lives.
        let job = *shared.job.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(job) = job {
            // SAFETY: the operation that this worker joined has not returned, so its closure is alive.
            claim(shared, index + 1, unsafe { &*job });
        }
        shared.state.fetch_sub(1, Ordering::Release);
    }
}

/// Waits for an operation after `seen` and joins it. Returns none when the pool is dropped.
fn wait(shared: &Shared, index: usize, seen: u64) -> Option<u64> {
    let mut rounds = 0_u32;
    loop {
        if shared.stop.load(Ordering::Relaxed) {
            return None;
        }
        let state = shared.state.load(Ordering::SeqCst);
        let epoch = state / EPOCH;
        if state & OPEN != 0 && epoch != seen {
            if shared
                .state
                .compare_exchange_weak(state, state + 1, Ordering::SeqCst, Ordering::Relaxed)
                .is_ok()
            {
                return Some(epoch);
            }
            continue;
        }
        rounds += 1;
        if rounds < SPINS {
            std::hint::spin_loop();
        } else if rounds < SPINS + YIELDS {
            thread::yield_now();
        } else {
            shared.parked[index].store(true, Ordering::SeqCst);
            // An operation that opened before the flag was visible did not unpark this worker: check again.
            let state = shared.state.load(Ordering::SeqCst);
            let news = state & OPEN != 0 && state / EPOCH != seen;
            if !news && !shared.stop.load(Ordering::SeqCst) {
                thread::park();
            }
            shared.parked[index].store(false, Ordering::SeqCst);
            rounds = 0;
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for (worker, handle) in &mut self.workers {
            worker.unpark();
            if let Some(handle) = handle.take() {
                // A worker catches the panics of its tasks, so it does not panic.
                drop(handle.join());
            }
        }
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("threads", &self.threads()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[test]
    fn every_task_runs_once_on_any_number_of_threads() {
        for threads in [0, 1, 2, 3, 8] {
            let pool = Pool::new(threads);
            for tasks in [0, 1, 2, 7, 100, 1000] {
                let counts: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
                pool.run(tasks, |task| {
                    counts[task].fetch_add(1, Ordering::Relaxed);
                });
                assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1), "{threads} {tasks}");
            }
        }
    }

    #[test]
    fn ranges_are_no_longer_than_their_grain_and_cover_every_task_once() {
        for threads in [1, 2, 5] {
            let pool = Pool::new(threads);
            for (tasks, grain) in [(0, 4), (1, 4), (7, 0), (7, 3), (100, 8), (3, 100)] {
                let counts: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
                pool.run_ranges(tasks, grain, |range| {
                    assert!(!range.is_empty() && range.len() <= grain.max(1), "{range:?}");
                    for task in range {
                        counts[task].fetch_add(1, Ordering::Relaxed);
                    }
                });
                assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1), "{threads} {tasks}");
            }
        }
    }

    #[test]
    fn other_threads_steal_tasks() {
        let pool = Pool::new(2);
        // A task at the front of one share, then of the other, that waits for all others.
        for waiting in [0, 50] {
            let done = AtomicUsize::new(0);
            pool.run(100, |task| {
                if task == waiting {
                    let start = std::time::Instant::now();
                    while done.load(Ordering::Relaxed) < 99 {
                        assert!(start.elapsed().as_secs() < 60, "no thread runs the rest");
                        thread::yield_now();
                    }
                }
                done.fetch_add(1, Ordering::Relaxed);
            });
            assert_eq!(done.into_inner(), 100);
        }
    }

    #[test]
    fn operations_follow_each_other_after_any_pause() {
        let pool = Pool::new(3);
        let sum = AtomicUsize::new(0);
        for round in 0..2000 {
            if round % 500 == 0 {
                thread::sleep(std::time::Duration::from_millis(5));
            }
            pool.run(4, |task| {
                sum.fetch_add(task, Ordering::Relaxed);
            });
        }
        assert_eq!(sum.into_inner(), 2000 * 6);
    }

    #[test]
    fn two_callers_take_turns() {
        let pool = Pool::new(2);
        let sum = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        pool.run(3, |_| {
                            sum.fetch_add(1, Ordering::Relaxed);
                        });
                    }
                });
            }
        });
        assert_eq!(sum.into_inner(), 3000);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
        let pool = Pool::new(2);
        let outcome = catch_unwind(AssertUnwindSafe(|| pool.run(10, |task| assert_ne!(task, 3))));
        assert!(outcome.is_err());
        let sum = AtomicUsize::new(0);
        pool.run(10, |task| {
            sum.fetch_add(task, Ordering::Relaxed);
        });
        assert_eq!(sum.into_inner(), 45);
    }
}
