//! Who follows the progress of a run.

use upcycle::Progress;

/// Follows the progress of a run, and may interrupt it.
pub trait RunObserver {
    /// Whether to stop. Finished measurements are kept.
    fn interrupted(&self) -> bool;
    /// A model is being loaded.
    fn loading(&mut self, what: &str, progress: Progress);
    /// `done` of `total` answers are measured; `arm` is next. During preparations `total` is 0.
    fn measuring(&mut self, done: usize, total: usize, arm: &str);
    /// A message for the user.
    fn notify(&mut self, message: &str);
}
