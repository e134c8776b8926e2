//! `upcycle chat`: in a pipe, and in a terminal.

mod piped;
mod terminal;
mod tmux;

use std::path::PathBuf;

use serde_json::Value;

/// A conversation file in `folder`.
fn kept(folder: &tempfile::TempDir) -> PathBuf {
    folder.path().join("chat.json")
}

/// The turns of a kept conversation, as pairs.
fn turns(path: &PathBuf) -> Vec<(String, String)> {
    let kept: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let text = |turn: &Value, key: &str| turn[key].as_str().unwrap().to_owned();
    kept["turns"]
        .as_array()
        .unwrap()
        .iter()
        .map(|turn| (text(turn, "user"), text(turn, "assistant")))
        .collect()
}
