//! Trials of model files in a child process.

use std::process::ExitCode;

/// Tries files in a child process before llama.cpp loads them into this one, because llama.cpp ends the process for some damaged
/// files. The child then ends instead, and the load is an error.
///
/// The child is this program, started with one argument. Call this function first in `main`. If it returns an exit code, this
/// process is such a child: end with that code at once. Without the backend llama-cpp, or if the system does not tell where this
/// program is, it does nothing.
#[must_use]
pub fn try_loads_in_child() -> Option<ExitCode> {
    #[cfg(feature = "llama-cpp")]
    {
        /// Makes this program the child of a trial.
        const ARGUMENT: &str = "try-load-for-parent";
        if std::env::args_os().nth(1).is_some_and(|argument| argument == ARGUMENT) {
            return Some(upcycle_llama_cpp::answer_trial());
        }
        match std::env::current_exe() {
            Ok(program) => upcycle_llama_cpp::try_loads_in(program, vec![ARGUMENT.to_owned()]),
            Err(error) => tracing::debug!(%error, "files are not tried in a child process"),
        }
    }
    None
}
