//! Ctrl-C: the first press ends the text after the current step, the second ends the process. In `chat` each press ends an
//! answer.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::failure::Failure;

static REQUESTED: AtomicBool = AtomicBool::new(false);

/// Starts to handle Ctrl-C. Before that it ends the process at once, for example while a model loads.
pub(crate) fn listen() -> Result<(), Failure> {
    ctrlc::set_handler(|| {
        if REQUESTED.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    })
    .map_err(Failure::failed)
}

/// Like [`listen`], but Ctrl-C never ends the process.
pub(crate) fn listen_to_all() -> Result<(), Failure> {
    ctrlc::set_handler(|| REQUESTED.store(true, Ordering::Relaxed)).map_err(Failure::failed)
}

/// Whether Ctrl-C was pressed since the last call.
pub(crate) fn take() -> bool {
    REQUESTED.swap(false, Ordering::Relaxed)
}

/// Whether Ctrl-C was pressed.
pub(crate) fn requested() -> bool {
    REQUESTED.load(Ordering::Relaxed)
}
