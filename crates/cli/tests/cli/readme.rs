//! Runs the commands of the README and of "Getting started": those in `sh` blocks. A `bash` block needs a cargo feature or a
//! network; `ort.rs` and `llama_cpp.rs` run similar commands.

use std::path::Path;
use std::process::Command;

use crate::harness::model;

/// Runs the lines of a page's `sh` blocks that call `upcycle`.
fn run_commands(page: &str, least: usize) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let text = std::fs::read_to_string(root.join(page)).unwrap();
    let blocks = text.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let runs = |line: &&str| {
        let bench = line.starts_with("upcycle bench ");
        line.split(' ').any(|word| word == "upcycle") && (cfg!(feature = "bench") || !bench)
    };
    let commands: Vec<&str> = blocks.flat_map(str::lines).filter(runs).collect();
    assert!(commands.len() >= least, "{page}: {commands:?}");
    let folder = Path::new(env!("CARGO_BIN_EXE_upcycle")).parent().unwrap();
    let path = std::env::join_paths(
        [folder.to_owned()].into_iter().chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
    );
    for command in commands {
        // The model is where the first command of the README downloads it, or where `UPCYCLE_TEST_MODEL` says.
        let command =
            command.replace(".models/SmolLM2-135M-Instruct.Q4_1.gguf", &model().display().to_string());
        // A server ends by a signal alone.
        let serves = command.starts_with("upcycle serve");
        let command = if serves { format!("timeout --preserve-status 5 {command}") } else { command };
        let output = Command::new("sh")
            .args(["-c", &command])
            .current_dir(&root)
            .env("PATH", path.as_ref().unwrap())
            .env("UPCYCLE_DECODE__MAX_TOKENS", "8")
            .env("UPCYCLE_MODEL__PATH", model())
            .env("UPCYCLE_SERVER__PORT", "0")
            .output()
            .unwrap();
        assert!(output.status.success() && (serves || !output.stdout.is_empty()), "{command}: {output:?}");
    }
}

#[test]
fn the_commands_of_the_readme_run() {
    run_commands("README.md", 4);
}

#[test]
fn the_commands_of_getting_started_run() {
    run_commands("docs/getting-started.md", 8);
}
