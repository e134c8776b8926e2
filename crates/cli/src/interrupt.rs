//! Ctrl-C: the first ends the text after the step at hand, the second ends the process; in a conversation each ends an
//! answer.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::failure::Failure;

static REQUESTED: AtomicBool = AtomicBool::new(false);

/// Listens from now on; before, Ctrl-C ends the process at once, as is right while a model is being loaded.
pub(crate) fn listen() -> Result<(), Failure> {
    ctrlc::set_handler(|| {
        if REQUESTED.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    })
    .map_err(Failure::failed)
}

/// As [`listen`], but no number of them ends the process.
pub(crate) fn listen_to_all() -> Result<(), Failure> {
    ctrlc::set_handler(|| REQUESTED.store(true, Ordering::Relaxed)).map_err(Failure::failed)
}

/// Whether Ctrl-C was pressed since this was asked last.
pub(crate) fn take() -> bool {
    REQUESTED.swap(false, Ordering::Relaxed)
}

/// Whether Ctrl-C was pressed.
pub(crate) fn requested() -> bool {
    REQUESTED.load(Ordering::Relaxed)
}
