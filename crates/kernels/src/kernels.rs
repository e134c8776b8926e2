//! The kernels of one processor, with the threads that run them.

use crate::{IsaError, Path, Pool};

/// The operations of a forward pass, on one path and one pool of threads: see its methods.
///
/// Every operation gives the same bits for a row whatever rows stand beside it, in whatever place, on however many
/// threads.
#[derive(Debug)]
pub struct Kernels {
    path: Path,
    pool: Pool,
}

impl Kernels {
    /// Kernels on the path that `UPCYCLE_KERNELS` names, else the processor's best, with `threads` threads (0: one for
    /// each core that this process may use; two threads of one core would share its units and its caches).
    ///
    /// # Errors
    /// [`IsaError`] if the variable names no path, or one that this processor cannot run.
    pub fn new(threads: usize) -> Result<Self, IsaError> {
        Ok(Self::with_path(Path::chosen()?, threads))
    }

    /// Kernels on `path`.
    #[must_use]
    pub fn with_path(path: Path, threads: usize) -> Self {
        let threads = match threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from).min(num_cpus::get_physical()),
            threads => threads,
        };
        Self { path, pool: Pool::new(threads) }
    }

    /// The path.
    #[must_use]
    pub fn path(&self) -> Path {
        self.path
    }

    /// The pool, for work of the caller's own.
    #[must_use]
    pub fn pool(&self) -> &Pool {
        &self.pool
    }
}
