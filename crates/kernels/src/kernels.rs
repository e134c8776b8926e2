//! The kernels for one instruction set, with the threads that run them.

use crate::isa::{IsaError, KernelPath};
use crate::pool::Pool;

/// The operations of a forward pass, on one instruction set and one pool of threads.
///
/// Every operation gives a row the same bits, whatever the other rows, the row's index and the number of threads.
#[derive(Debug)]
pub struct Kernels {
    path: KernelPath,
    pool: Pool,
}

impl Kernels {
    /// Kernels for the instruction set that `UPCYCLE_KERNELS` names, or the processor's best, with `threads` threads. 0 threads stand for
    /// one on each physical core that this process may use: two threads of one core would share its units and caches.
    ///
    /// # Errors
    /// [`IsaError`] if the variable names an unknown instruction set, or one that this processor lacks.
    pub fn new(threads: usize) -> Result<Self, IsaError> {
        Ok(Self::with_path(KernelPath::chosen()?, threads))
    }

    /// Kernels on `path`.
    #[must_use]
    pub fn with_path(path: KernelPath, threads: usize) -> Self {
        let threads = match threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from).min(num_cpus::get_physical()),
            threads => threads,
        };
        Self { path, pool: Pool::new(threads) }
    }

    /// The path.
    #[must_use]
    pub fn path(&self) -> KernelPath {
        self.path
    }

    /// The threads, for the caller's own work.
    #[must_use]
    pub fn pool(&self) -> &Pool {
        &self.pool
    }
}
