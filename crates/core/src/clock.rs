//! The time that a decoder is given, so that it can be simulated.

use std::time::{Duration, Instant};

/// A clock: time since some fixed moment. It may stand still; a decoder ignores a step back.
pub trait Clock: Send {
    /// The time now.
    fn now(&self) -> Duration;
}

/// The monotonic clock of the system.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock(Instant);

impl Default for SystemClock {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}
