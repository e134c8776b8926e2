//! As a person does it.

use std::fs;

use super::tmux::Terminal;
use super::{kept, turns};

/// An answer that goes on for longer than a test waits.
const ENDLESS: [&str; 4] = ["-n", "100000", "-s", "drafter.name=none"];

#[test]
fn ctrl_c_ends_the_answer_and_ctrl_d_the_program() {
    let folder = tempfile::tempdir().unwrap();
    let terminal = Terminal::chat((80, 24), &[], &ENDLESS);
    terminal.says("Count from 1 to 5000, every number on a line of its own.");
    terminal.wait_for("a beginning", |screen| screen.contains("\n1") || screen.contains("2"));
    terminal.press("C-c");
    terminal.wait("(stopped by Ctrl-C)");
    terminal.ready();
    terminal.press("C-c");
    terminal.wait("Ctrl-D or /quit quits");
    terminal.says(&format!("/save {}", kept(&folder).display()));
    terminal.ready();
    let turns = turns(&kept(&folder));
    assert!(turns.len() == 1 && !turns[0].1.is_empty(), "what was said until then stays: {turns:?}");
    terminal.says("/set max_tokens 4");
    terminal.ready();
    terminal.says("Hello");
    terminal.wait("(stopped after 4 tokens");
    terminal.ready();
    terminal.press("C-d");
    assert_eq!(terminal.code(), 0);
}

#[test]
fn lines_are_edited_recalled_and_saved() {
    let terminal = Terminal::chat((40, 20), &[], &["-n", "4"]);
    terminal.says("/system Grüße, 世界! 🙂");
    terminal.ready();
    terminal.says("/system");
    terminal.wait("\nGrüße, 世界! 🙂");
    terminal.ready();
    // Back to the line before the last, its end cut off.
    terminal.press("Up");
    terminal.press("Up");
    for _ in 0..3 {
        terminal.press("BSpace");
    }
    terminal.types("?");
    terminal.press("Enter");
    terminal.ready();
    terminal.says("/system");
    terminal.wait("\nGrüße, 世界?");
    terminal.says("/quit");
    assert_eq!(terminal.code(), 0);
    let history = fs::read_to_string(terminal.history()).unwrap();
    assert!(history.contains("/system Grüße, 世界?"), "{history}");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(terminal.history()).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "what was typed is nobody else's to read: {mode:o}");
    }
}

#[test]
fn what_is_pasted_is_one_message() {
    let folder = tempfile::tempdir().unwrap();
    let terminal = Terminal::chat((60, 20), &[], &["-n", "4"]);
    let pasted = "fn main() {\n    println!(\"ä\");\n}";
    terminal.pastes(pasted);
    terminal.wait("println");
    terminal.press("M-Enter");
    terminal.types("What is this?");
    terminal.press("Enter");
    terminal.wait("(stopped after 4 tokens");
    terminal.ready();
    terminal.says(&format!("/save {}", kept(&folder).display()));
    terminal.ready();
    assert_eq!(turns(&kept(&folder))[0].0, format!("{pasted}\nWhat is this?"));
}

#[test]
fn long_lines_and_resized_terminals_work() {
    let terminal = Terminal::chat((24, 12), &[], &["-n", "4"]);
    let long = "wörter und mehr ".repeat(40);
    terminal.types(&format!("/system {long}"));
    terminal.wait("und mehr");
    terminal.resize((50, 30));
    terminal.types("ENDE");
    terminal.press("Enter");
    terminal.ready();
    terminal.resize((120, 40));
    terminal.says("/system");
    let screen = terminal.wait_for("the whole line", |screen| screen.matches("ENDE").count() >= 2);
    assert!(screen.replace('\n', "").contains(&format!("{long}ENDE")), "{screen}");
    terminal.says("/quit");
    assert_eq!(terminal.code(), 0);
}

#[test]
fn drafted_tokens_are_shown_if_colours_are() {
    let says = ["-n", "48", "--show-drafts"];
    let green = "\u{1b}[32m";
    for (variables, arguments, shaded) in [
        (&[][..], &says[..], true),
        (&[("NO_COLOR", "1")][..], &says[..], false),
        (&[][..], &says[..2], false),
    ] {
        let terminal = Terminal::chat((80, 24), variables, arguments);
        terminal.says("Repeat after me: one two three one two three one two three one two three");
        terminal.wait_for("the end", |screen| {
            screen.matches("one two three").count() > 4 || screen.contains("(stopped")
        });
        terminal.ready();
        let screen = terminal.colours();
        assert_eq!(screen.contains(green), shaded, "{variables:?}, {arguments:?}: {screen}");
    }
}

#[test]
fn sigterm_in_the_middle_of_a_line_restores_the_terminal() {
    let terminal = Terminal::chat((80, 24), &[], &[]);
    terminal.types("half a li");
    terminal.wait("half a li");
    terminal.terminate();
    assert_eq!(terminal.code(), 143);
    let mode = terminal.mode();
    assert!(mode.contains(" icanon") && mode.contains(" echo "), "{mode}");
}

#[test]
fn a_full_context_is_reported_and_reset_frees_it() {
    let terminal = Terminal::chat((80, 24), &[], &["-n", "4"]);
    let file = terminal.folder().join("long.json");
    let turn = serde_json::json!({ "user": "word ".repeat(9000), "assistant": "yes" });
    fs::write(&file, serde_json::json!({ "version": 1, "turns": [turn] }).to_string()).unwrap();
    terminal.says(&format!("/load {}", file.display()));
    terminal.ready();
    terminal.says("And now?");
    terminal.wait("the context holds 8192");
    terminal.ready();
    terminal.says("/reset");
    terminal.ready();
    terminal.says("Hello");
    terminal.wait("(stopped after 4 tokens");
}
