//! Another program that times passes, run in turn with ours.

use std::collections::BTreeMap;
use std::process::{Command, ExitStatus, Stdio};

/// Why another program's times cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PeerCommandError {
    /// It cannot be started.
    #[error("cannot run `{command}` with sh")]
    Start {
        /// The command.
        command: String,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// It failed.
    #[error("`{command}` failed: {status}; its messages are above")]
    Failed {
        /// The command.
        command: String,
        /// How it ended.
        status: ExitStatus,
    },
    /// It printed no times.
    #[error("`{command}` printed no line `ROWS MILLISECONDS`, such as `8 45.6`")]
    NoTimes {
        /// The command.
        command: String,
    },
}

/// Runs `command` with `sh`, and reads lines `ROWS MILLISECONDS` from its standard output: the seconds of a pass by its number of rows. Other
/// lines are ignored, and a later line replaces an earlier one of the same rows.
///
/// # Errors
/// [`PeerCommandError`]: it cannot be started, fails, or prints no such line.
pub fn time(command: &str) -> Result<BTreeMap<usize, f64>, PeerCommandError> {
    let child =
        Command::new("sh").arg("-c").arg(command).stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = child.map_err(|source| PeerCommandError::Start { command: command.to_owned(), source })?;
    if !output.status.success() {
        return Err(PeerCommandError::Failed { command: command.to_owned(), status: output.status });
    }
    let times: BTreeMap<_, _> = String::from_utf8_lossy(&output.stdout).lines().filter_map(parse).collect();
    if times.is_empty() { Err(PeerCommandError::NoTimes { command: command.to_owned() }) } else { Ok(times) }
}

/// Rows and seconds of a line.
fn parse(line: &str) -> Option<(usize, f64)> {
    let mut words = line.split_ascii_whitespace();
    let (rows, milliseconds) = (words.next()?.parse().ok()?, words.next()?.parse::<f64>().ok()?);
    let sound = rows > 0 && milliseconds.is_finite() && milliseconds > 0.0 && words.next().is_none();
    sound.then_some((rows, milliseconds / 1e3))
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_other_lines_ignored() {
        let times = time(
            "echo loading; echo '1 18.5'; echo '8  83'; echo '4 -1'; echo '2 nan'; echo 'x 3'; echo '0 1'",
        );
        assert_eq!(times.unwrap(), BTreeMap::from([(1, 0.0185), (8, 0.083)]));
    }

    #[test]
    fn failures_name_the_command() {
        let failed = time("echo '1 2'; exit 3").unwrap_err();
        assert!(
            matches!(&failed, PeerCommandError::Failed { status, .. } if status.code() == Some(3)),
            "{failed}"
        );
        let none = time("echo hello").unwrap_err();
        assert!(matches!(none, PeerCommandError::NoTimes { .. }) && none.to_string().contains("echo hello"));
    }
}
