//! Runs the binary.

use std::process::{Command, Output};

use serde_json::Value;
pub(crate) use upcycle_testkit::real_model as model;

/// A setting for tests that count steps: sizes chosen by a clock are not the same on every run.
pub(crate) const SIZE: &str = "drafter.budget=8";

/// The binary, without the keys that the environment of the test may hold.
pub(crate) fn upcycle() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_upcycle"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("UPCYCLE_") {
            command.env_remove(name);
        }
    }
    // What passes cost is kept among the tests' own files, not in the user's cache.
    command.env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"));
    command
}

/// `upcycle run` on the real model, with these arguments.
pub(crate) fn run(arguments: &[&str]) -> Command {
    let mut command = upcycle();
    command.arg("run").arg("--model").arg(model()).args(arguments);
    command
}

/// Its output, which must be a success.
pub(crate) fn succeed(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    output
}

/// Its standard output, which must be a success, as text.
pub(crate) fn stdout(command: &mut Command) -> String {
    String::from_utf8(succeed(command).stdout).unwrap()
}

/// Its standard output as one JSON value.
pub(crate) fn json(command: &mut Command) -> Value {
    let text = stdout(command);
    assert_eq!(text.matches('\n').count(), 1, "one line: {text}");
    serde_json::from_str(&text).unwrap()
}

/// Its standard error; it must end with some exit code that says so.
#[cfg(any(feature = "ort", feature = "llama-cpp"))]
pub(crate) fn failure(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.code().is_some_and(|code| code != 0), "{command:?}: {output:?}");
    String::from_utf8(output.stderr).unwrap()
}

/// Its standard error; it must end with this exit code and print nothing.
pub(crate) fn fail(command: &mut Command, code: i32) -> String {
    let output = command.output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{command:?}: {error}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "", "{command:?}");
    assert!(error.starts_with("error: "), "{command:?}: {error}");
    assert!(!error.contains("panicked"), "{error}");
    error
}

/// The list at `key`.
pub(crate) fn numbers(value: &Value, key: &str) -> Vec<u64> {
    let list =
        value.pointer(key).and_then(Value::as_array).unwrap_or_else(|| panic!("no list {key}: {value}"));
    list.iter().map(|number| number.as_u64().unwrap()).collect()
}

/// The number at `key`.
pub(crate) fn number(value: &Value, key: &str) -> f64 {
    value.pointer(key).and_then(Value::as_f64).unwrap_or_else(|| panic!("no number {key}: {value}"))
}
