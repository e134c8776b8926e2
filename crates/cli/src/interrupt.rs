//! Ctrl-C, SIGTERM and SIGHUP: the first ends the text after the current step, the second ends the process. In `chat`, each
//! Ctrl-C ends an answer.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::{SigId, flag, low_level};

/// What the signals' handlers set.
struct Signals {
    interrupted: Arc<AtomicBool>,
    /// The number of a signal other than Ctrl-C; 0 before one came.
    terminated: Arc<AtomicUsize>,
    /// Whether the next signal ends the process.
    at_once: Arc<AtomicBool>,
    /// Makes the signal after a Ctrl-C end the process.
    second_interrupt: SigId,
}

static SIGNALS: OnceLock<Signals> = OnceLock::new();

/// Handles the signals. Until [`listen`] they end the process at once, for example while a model loads. They would without a
/// handler too, except in the first process of a container, where the system then ignores them.
///
/// # Errors
/// The system refuses a handler.
pub(crate) fn start() -> io::Result<()> {
    let signals = register()?;
    // A second call changes nothing.
    let _ = SIGNALS.set(signals);
    Ok(())
}

fn register() -> io::Result<Signals> {
    let (interrupted, terminated) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let at_once = Arc::new(AtomicBool::new(true));
    // The actions of a signal run in this order.
    flag::register_conditional_shutdown(SIGINT, status(SIGINT), Arc::clone(&at_once))?;
    flag::register(SIGINT, Arc::clone(&interrupted))?;
    let second_interrupt = flag::register(SIGINT, Arc::clone(&at_once))?;
    for signal in terminating() {
        flag::register_conditional_shutdown(signal, status(signal), Arc::clone(&at_once))?;
        flag::register_usize(signal, Arc::clone(&terminated), signal as usize)?;
        flag::register(signal, Arc::clone(&at_once))?;
    }
    Ok(Signals { interrupted, terminated, at_once, second_interrupt })
}

/// SIGTERM, and SIGHUP unless it is ignored, as `nohup` has it.
fn terminating() -> Vec<i32> {
    let mut signals = vec![SIGTERM];
    #[cfg(target_os = "linux")]
    {
        use signal_hook::consts::SIGHUP;
        let ignored = std::fs::read_to_string("/proc/self/status").ok().and_then(|status| {
            let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
            u64::from_str_radix(mask.trim(), 16).ok()
        });
        if ignored.is_some_and(|ignored| ignored & (1 << (SIGHUP - 1)) == 0) {
            signals.push(SIGHUP);
        }
    }
    signals
}

/// The shells' exit status for a signal.
fn status(signal: i32) -> i32 {
    128 + signal
}

/// From now on, the first signal only requests the end.
pub(crate) fn listen() {
    if let Some(signals) = SIGNALS.get() {
        signals.at_once.store(false, Ordering::SeqCst);
    }
}

/// Like [`listen`], but Ctrl-C never ends the process.
pub(crate) fn listen_to_all() {
    if let Some(signals) = SIGNALS.get() {
        low_level::unregister(signals.second_interrupt);
    }
    listen();
}

/// Forgets a Ctrl-C.
pub(crate) fn take() {
    if let Some(signals) = SIGNALS.get() {
        signals.interrupted.store(false, Ordering::SeqCst);
    }
}

/// Whether a signal came.
pub(crate) fn requested() -> bool {
    terminated() || SIGNALS.get().is_some_and(|signals| signals.interrupted.load(Ordering::SeqCst))
}

/// Whether a signal other than Ctrl-C came.
pub(crate) fn terminated() -> bool {
    terminating_signal() != 0
}

fn terminating_signal() -> usize {
    SIGNALS.get().map_or(0, |signals| signals.terminated.load(Ordering::SeqCst))
}

/// The exit code: 130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP.
pub(crate) fn exit_code() -> u8 {
    let signal = match terminating_signal() {
        0 => SIGINT,
        signal => signal as i32,
    };
    status(signal) as u8
}
