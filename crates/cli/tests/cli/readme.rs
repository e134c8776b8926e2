//! The README's commands, run as they stand there: those in `sh` blocks. A `bash` block needs a cargo feature; `ort.rs` and
//! `llama_cpp.rs` run the like.

use std::path::Path;
use std::process::Command;

use crate::harness::model;

#[test]
fn the_commands_of_the_readme_run() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let shell = readme.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let commands: Vec<&str> = shell
        .flat_map(str::lines)
        .filter(|line| line.starts_with("upcycle ") || line.contains("| upcycle "))
        .collect();
    assert!(commands.len() >= 4, "{commands:?}");
    let folder = Path::new(env!("CARGO_BIN_EXE_upcycle")).parent().unwrap();
    let path = std::env::join_paths(
        [folder.to_owned()].into_iter().chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
    );
    for command in commands {
        // The model is where the README's first command leaves it, or where the tests were told that it is.
        let command =
            command.replace(".models/SmolLM2-135M-Instruct.Q4_1.gguf", &model().display().to_string());
        let output = Command::new("sh")
            .args(["-c", &command])
            .current_dir(&root)
            .env("PATH", path.as_ref().unwrap())
            .env("UPCYCLE_DECODE__MAX_TOKENS", "8")
            .env("UPCYCLE_MODEL__PATH", model())
            .output()
            .unwrap();
        assert!(output.status.success() && !output.stdout.is_empty(), "{command}: {output:?}");
    }
}
