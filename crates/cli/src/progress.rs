//! Progress bars on standard error, shown only in a terminal.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use upcycle::Progress;

use crate::output::is_smart;

/// A bar that disappears when it is dropped.
#[derive(Debug)]
pub(crate) struct Bar(ProgressBar);

impl Bar {
    /// A bar for work of unknown length; [`set`](Self::set) gives the length.
    pub(crate) fn new(what: &'static str) -> Self {
        let bar = ProgressBar::with_draw_target(None, target());
        let style = ProgressStyle::with_template("{msg} {bar:32} {percent:>3} %")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style);
        bar.set_message(what);
        Self(bar)
    }

    /// A line for work that reports no progress.
    pub(crate) fn without_length(what: &'static str) -> Self {
        let bar = Self::new(what);
        if let Ok(style) = ProgressStyle::with_template("{msg}") {
            bar.0.set_style(style);
        }
        bar.0.tick();
        bar
    }

    pub(crate) fn set(&self, progress: Progress) {
        self.0.set_length(progress.total);
        self.0.set_position(progress.done);
    }
}

/// Standard error, if it is a terminal that can move the cursor.
pub(crate) fn target() -> ProgressDrawTarget {
    if is_smart(&std::io::stderr()) { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
