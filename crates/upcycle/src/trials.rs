//! Trials of model files in a child process.

use std::process::ExitCode;

/// Tries files in a child process before llama.cpp, or ONNX Runtime with `backend.ort.isolate`, loads them into this one, because
/// these libraries end the process for some damaged files. The child then ends instead, and the load is an error.
///
/// The child is this program, started with one argument. Call this function first in `main`. If it returns an exit code, this
/// process is such a child: end with that code at once. Without these backends, or if the system does not tell where this
/// program is, it does nothing.
#[must_use]
pub fn try_loads_in_child() -> Option<ExitCode> {
    #[cfg(any(feature = "llama-cpp", feature = "ort"))]
    {
        /// Makes this program the child of a trial.
        const ARGUMENT: &str = "try-load-for-parent";
        let mut arguments = std::env::args_os().skip(1);
        if arguments.next().is_some_and(|argument| argument == ARGUMENT) {
            let backend = arguments.next().unwrap_or_default();
            return Some(match backend.to_str() {
                #[cfg(feature = "llama-cpp")]
                Some("llama-cpp") => upcycle_llama_cpp::answer_trial(),
                #[cfg(feature = "ort")]
                Some("ort") => upcycle_ort::answer_trial(),
                _ => ExitCode::FAILURE,
            });
        }
        match std::env::current_exe() {
            Ok(program) => upcycle_checkpoint::trial::try_loads_in(program, vec![ARGUMENT.to_owned()]),
            Err(error) => tracing::debug!(%error, "files are not tried in a child process"),
        }
    }
    None
}
