//! Threads that share the tasks of one operation at a time.
//!
//! A forward pass is some hundred and fifty operations of some ten microseconds, so that handing one out has to cost
//! less than one. Workers spin for a moment between operations and then park. The caller works too, and waits only for
//! workers that have joined: one that the system has put aside delays nothing, so that a busy machine stays usable.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle, Thread};

/// Rounds of looking for work before a worker yields, then parks: some ten microseconds.
const SPINS: u32 = 2000;
const YIELDS: u32 = 16;

/// Bit of `state` that says that the current operation takes workers; the bits below it count those inside, the bits
/// above it count operations.
const OPEN: u64 = 1 << 31;
const INSIDE: u64 = OPEN - 1;
const EPOCH: u64 = 1 << 32;

type Job<'a> = dyn Fn(usize) + Sync + 'a;

struct Shared {
    state: AtomicU64,
    /// The current operation; only read by workers that are inside it.
    job: Mutex<Option<*const Job<'static>>>,
    next: AtomicUsize,
    tasks: AtomicUsize,
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
    /// A pool of `threads` threads, the caller counted; 0 counts as 1.
    ///
    /// A worker that the system refuses to start is done without.
    #[must_use]
    pub fn new(threads: usize) -> Self {
        let count = threads.max(1) - 1;
        let shared = Arc::new(Shared {
            state: AtomicU64::new(0),
            job: Mutex::new(None),
            next: AtomicUsize::new(0),
            tasks: AtomicUsize::new(0),
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

    /// The number of threads, the caller counted.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Runs `job` for every task in `0..tasks`, in any order and on any thread, and returns when all are done.
    ///
    /// # Panics
    /// If a task panics; the others are still done.
    pub fn run(&self, tasks: usize, job: impl Fn(usize) + Sync) {
        if self.workers.is_empty() || tasks <= 1 {
            (0..tasks).for_each(job);
            return;
        }
        let _running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = &*self.shared;
        let job: &Job<'_> = &job;
        // SAFETY: only the lifetime changes, and no worker follows the pointer after this function returns.
        let erased = unsafe { std::mem::transmute::<*const Job<'_>, *const Job<'static>>(job) };
        *shared.job.lock().unwrap_or_else(PoisonError::into_inner) = Some(erased);
        shared.next.store(0, Ordering::Relaxed);
        shared.tasks.store(tasks, Ordering::Relaxed);
        // No worker is inside, so the low bits are 0: the next epoch, open.
        let epoch = (shared.state.load(Ordering::Relaxed) & !(EPOCH - 1)).wrapping_add(EPOCH);
        shared.state.store(epoch | OPEN, Ordering::SeqCst);
        for ((worker, _), parked) in self.workers.iter().zip(&shared.parked) {
            if parked.swap(false, Ordering::SeqCst) {
                worker.unpark();
            }
        }
        claim(shared, job);
        shared.state.fetch_and(!OPEN, Ordering::SeqCst);
        let mut spins = 0_u32;
        while shared.state.load(Ordering::Acquire) & INSIDE != 0 {
            spins = spins.saturating_add(1);
            if spins < SPINS { std::hint::spin_loop() } else { thread::yield_now() }
        }
        assert!(!shared.panicked.swap(false, Ordering::Relaxed), "a task of the pool panicked");
    }
}

/// Takes tasks until none is left.
fn claim(shared: &Shared, job: &Job<'_>) {
    let tasks = shared.tasks.load(Ordering::Relaxed);
    loop {
        let task = shared.next.fetch_add(1, Ordering::Relaxed);
        if task >= tasks {
            return;
        }
        if catch_unwind(AssertUnwindSafe(|| job(task))).is_err() {
            shared.panicked.store(true, Ordering::Relaxed);
        }
    }
}

fn work(shared: &Shared, index: usize) {
    let mut seen = 0;
    while let Some(epoch) = wait(shared, index, seen) {
        seen = epoch;
        // Inside: `run` waits for this worker, so the job lives.
        let job = *shared.job.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(job) = job {
            // SAFETY: the operation that this worker joined has not returned, so its closure is alive.
            claim(shared, unsafe { &*job });
        }
        shared.state.fetch_sub(1, Ordering::Release);
    }
}

/// Waits for an operation after `seen` and joins it; none when the pool is dropped.
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
            // Whoever opened an operation before the flag was seen did not unpark: look once more.
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
                // A worker catches the panics of its tasks, so it ends in good order.
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
