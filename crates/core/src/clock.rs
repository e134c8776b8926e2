//! The time source of a decoder, so that tests can simulate time.

use std::time::{Duration, Instant};

/// A clock: the time since some fixed moment. If the clock goes back, a decoder counts no time.
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
