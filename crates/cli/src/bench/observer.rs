//! Shows the progress of a run on standard error.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use upcycle::Progress;
use upcycle_bench::runner::RunObserver;

use crate::interrupt;
use crate::output::print_status;
use crate::progress::target;

/// A progress bar with the remaining time.
#[derive(Debug)]
pub(super) struct TerminalObserver(ProgressBar);

const MEASURING: &str = "{bar:24} {pos}/{len} answers, {eta} left: {wide_msg}";
const LOADING: &str = "{bar:24} {percent:>3} % {wide_msg}";
const PREPARING: &str = "{spinner} {wide_msg}";

impl TerminalObserver {
    pub(super) fn new() -> Self {
        let bar = ProgressBar::with_draw_target(None, target());
        bar.enable_steady_tick(Duration::from_secs(1));
        Self(bar)
    }

    fn style(&self, template: &str) {
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.0.set_style(style);
        }
    }
}

impl RunObserver for TerminalObserver {
    fn interrupted(&self) -> bool {
        interrupt::requested()
    }

    fn loading(&mut self, what: &str, progress: Progress) {
        self.style(LOADING);
        self.0.set_length(progress.total);
        self.0.set_position(progress.done);
        self.0.set_message(format!("loading {what}"));
    }

    fn measuring(&mut self, done: usize, total: usize, arm: &str) {
        if total == 0 {
            self.style(PREPARING);
        } else {
            if self.0.length() != Some(total as u64) {
                self.0.reset();
                self.0.set_length(total as u64);
            }
            self.style(MEASURING);
            self.0.set_position(done as u64);
        }
        self.0.set_message(arm.to_owned());
    }

    fn notify(&mut self, message: &str) {
        // A hidden bar prints nothing.
        if self.0.is_hidden() {
            print_status(message);
        } else {
            self.0.println(message);
        }
    }
}

impl Drop for TerminalObserver {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
