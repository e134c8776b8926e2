//! A clock that is advanced by hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use upcycle_core::Clock;

/// A clock that moves only by [`advance`](Self::advance). Clones share its time.
///
/// ```
/// use std::time::Duration;
/// use upcycle_core::Clock;
/// use upcycle_testkit::ManualClock;
///
/// let clock = ManualClock::default();
/// let copy = clock.clone();
/// clock.advance(Duration::from_millis(3));
/// assert_eq!(copy.now(), Duration::from_millis(3));
/// ```
#[derive(Clone, Debug, Default)]
pub struct ManualClock {
    nanoseconds: Arc<AtomicU64>,
}

impl ManualClock {
    /// Advances by `time`, in whole nanoseconds.
    pub fn advance(&self, time: Duration) {
        let time = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds.fetch_add(time, Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Duration {
        Duration::from_nanos(self.nanoseconds.load(Ordering::Relaxed))
    }
}
