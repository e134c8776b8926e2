//! llama.cpp's log. It goes to `tracing`, one level lower, and its errors go into the errors of this crate.

use std::cell::RefCell;
use std::ffi::{CStr, c_char, c_void};
use std::sync::atomic::{AtomicBool, Ordering};

use llama_cpp_sys_2::{
    GGML_LOG_LEVEL_CONT, GGML_LOG_LEVEL_DEBUG, GGML_LOG_LEVEL_ERROR, GGML_LOG_LEVEL_INFO,
    GGML_LOG_LEVEL_WARN, ggml_log_level,
};

/// The unfinished line of a thread, and the errors that it logged during [`listen`].
#[derive(Default)]
struct Lines {
    level: ggml_log_level,
    line: String,
    errors: Option<Vec<String>>,
}

/// Whether lines go to standard error too.
static PRINTED: AtomicBool = AtomicBool::new(false);

thread_local! {
    static LINES: RefCell<Lines> = RefCell::default();
}

/// Runs `call`. Returns its result, and the errors that llama.cpp logged meanwhile on this thread, joined.
pub(crate) fn listen<T>(call: impl FnOnce() -> T) -> (T, String) {
    LINES.with_borrow_mut(|lines| lines.errors = Some(Vec::new()));
    let result = call();
    let errors = LINES.with_borrow_mut(|lines| lines.errors.take().unwrap_or_default());
    (result, if errors.is_empty() { "it gives no reason".to_owned() } else { errors.join("; ") })
}

/// Prints every line to standard error too, in a process that may end at any moment.
pub(crate) fn log_to_stderr() {
    PRINTED.store(true, Ordering::Relaxed);
}

/// Makes llama.cpp and ggml log through `tracing`.
pub(super) fn install() {
    // SAFETY: the function lives as long as the program, and takes no user data.
    unsafe { llama_cpp_sys_2::llama_log_set(Some(receive), std::ptr::null_mut()) };
}

/// llama.cpp calls this with a part of a line, a line or several, on any thread.
unsafe extern "C" fn receive(level: ggml_log_level, text: *const c_char, _: *mut c_void) {
    if text.is_null() {
        return;
    }
    // SAFETY: llama.cpp passes a string that ends in a zero byte and stays during the call.
    let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
    // Ignores an ending thread, and a subscriber that logs here again: a C function must not panic.
    let _ = LINES.try_with(|lines| {
        if let Ok(mut lines) = lines.try_borrow_mut() {
            lines.push(level, &text);
        }
    });
}

impl Lines {
    fn push(&mut self, level: ggml_log_level, text: &str) {
        if level != GGML_LOG_LEVEL_CONT {
            self.level = level;
        }
        let mut parts = text.split('\n');
        self.line.push_str(parts.next().unwrap_or_default());
        for part in parts {
            self.end();
            self.line.push_str(part);
        }
    }

    /// Logs the complete line.
    fn end(&mut self) {
        let line = std::mem::take(&mut self.line);
        let line = line.trim();
        if line.is_empty() {
            return;
        }
        if PRINTED.load(Ordering::Relaxed) {
            eprintln!("{line}");
        }
        match (self.level, &mut self.errors) {
            (GGML_LOG_LEVEL_ERROR, Some(errors)) => {
                // The format is "function: message".
                let named = line.split_once(": ").filter(|(function, _)| !function.contains(' '));
                errors.push(named.map_or(line, |(_, message)| message).to_owned());
                tracing::debug!(target: "llama.cpp", "{line}");
            }
            (GGML_LOG_LEVEL_ERROR, None) => tracing::warn!(target: "llama.cpp", "{line}"),
            (GGML_LOG_LEVEL_WARN, _) => tracing::info!(target: "llama.cpp", "{line}"),
            (GGML_LOG_LEVEL_INFO, _) => tracing::debug!(target: "llama.cpp", "{line}"),
            (GGML_LOG_LEVEL_DEBUG, _) => tracing::trace!(target: "llama.cpp", "{line}"),
            (_, _) => tracing::debug!(target: "llama.cpp", "{line}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Logs `parts` as llama.cpp does.
    fn say(parts: &[(ggml_log_level, &CStr)]) {
        for (level, text) in parts {
            // SAFETY: the text is a C string.
            unsafe { receive(*level, text.as_ptr(), std::ptr::null_mut()) };
        }
    }

    #[test]
    fn listen_returns_only_errors_and_without_the_function_names() {
        let ((), heard) = listen(|| {
            say(&[
                (GGML_LOG_LEVEL_INFO, c"all is well\n"),
                (GGML_LOG_LEVEL_ERROR, c"load: no such "),
                (GGML_LOG_LEVEL_CONT, c"tensor\nanother: line"),
                (GGML_LOG_LEVEL_CONT, c"\n"),
                (GGML_LOG_LEVEL_WARN, c"careful\n"),
            ]);
        });
        assert_eq!(heard, "no such tensor; line");
        let ((), heard) = listen(|| say(&[(GGML_LOG_LEVEL_INFO, c"fine\n")]));
        assert_eq!(heard, "it gives no reason");
    }
}
