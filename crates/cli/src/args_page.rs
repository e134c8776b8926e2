//! `docs/command-line.md` says what `--help` says: its lists of commands and flags are written from the arguments.

use std::fmt::Write as _;
use std::path::Path;

use clap::{Arg, Command};

use crate::args;

const PAGE: &str = "../../docs/command-line.md";
const BEGIN: &str = "<!-- From the arguments: UPDATE_PAGES=1 ./scripts/test.sh -->\n";
const END: &str = "<!-- end -->\n";

/// Commands whose flags are listed.
const LISTED: [&str; 4] = ["run", "chat", "warm", "trace"];

/// A table of the commands, and a table of the flags of those that answer prompts.
fn lists() -> String {
    let command = args::command();
    let mut page = String::from("\n| command | does |\n|---|---|\n");
    for command in command.get_subcommands() {
        rows(command, command.get_name(), &mut page);
    }
    page.push_str("\n| flag | of | meaning |\n|---|---|---|\n");
    let commands: Vec<&Command> = LISTED.iter().filter_map(|name| command.find_subcommand(name)).collect();
    let mut listed: Vec<(String, Vec<&str>, String)> = Vec::new();
    for command in &commands {
        for arg in command.get_opts().chain(flags(command)).filter(|arg| arg.get_long() != Some("help")) {
            let (flag, meaning) = (spelling(arg), text(arg.get_help()));
            let same =
                |(other, _, said): &&mut (String, Vec<&str>, String)| *other == flag && *said == meaning;
            match listed.iter_mut().find(same) {
                Some((_, of, _)) if !of.contains(&command.get_name()) => of.push(command.get_name()),
                Some(_) => {}
                None => listed.push((flag, vec![command.get_name()], meaning)),
            }
        }
    }
    for (flag, of, meaning) in listed {
        let of = if of.len() == LISTED.len() { "all".to_owned() } else { of.join(", ") };
        let _ = writeln!(page, "| {flag} | {of} | {meaning} |");
    }
    page.push('\n');
    page
}

/// Flags without a value.
fn flags(command: &Command) -> impl Iterator<Item = &Arg> {
    command.get_arguments().filter(|arg| !arg.is_positional() && !arg.get_action().takes_values())
}

fn rows(command: &Command, name: &str, page: &mut String) {
    let _ = writeln!(page, "| `{name}` | {} |", text(command.get_about()));
    for inner in command.get_subcommands() {
        rows(inner, &format!("{name} {}", inner.get_name()), page);
    }
}

/// `-n`, `--max-tokens N`, with other names.
fn spelling(arg: &Arg) -> String {
    let value = arg.get_value_names().filter(|_| arg.get_action().takes_values());
    let value = value.and_then(|names| names.first()).map(|name| format!(" {name}")).unwrap_or_default();
    let short = arg.get_short().map(|short| format!("`-{short}`"));
    let long = arg.get_long().map(|long| format!("`--{long}{value}`"));
    let others = arg.get_visible_aliases().unwrap_or_default();
    let others = others.into_iter().map(|other| format!("`--{other}`"));
    short.into_iter().chain(long).chain(others).collect::<Vec<_>>().join(", ")
}

fn text(styled: Option<&clap::builder::StyledStr>) -> String {
    let text = styled.map(ToString::to_string).unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|").replace('<', "&lt;")
}

#[test]
fn the_page_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    let found = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = found.split_once(BEGIN).expect("the page has the lists");
    let (_, after) = rest.split_once(END).expect("the lists end");
    let page = format!("{before}{BEGIN}{}{END}{after}", lists());
    if std::env::var_os("UPDATE_PAGES").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap();
    assert!(found == page, "docs/command-line.md is out of date; UPDATE_PAGES=1 writes it");
}

#[test]
fn the_arguments_are_sound_and_take_any_value() {
    let command = args::command();
    command.clone().debug_assert();
    let parse = |arguments: &[&str]| command.clone().try_get_matches_from(arguments);
    for name in LISTED {
        let command = command.find_subcommand(name).unwrap();
        for arg in command.get_opts().filter(|arg| arg.get_possible_values().is_empty()) {
            let Some(long) = arg.get_long().filter(|long| !["prompts", "system"].contains(long)) else {
                continue;
            };
            let flag = format!("--{long}");
            // Twice, with values that look like flags.
            let more: &[&str] = if name == "warm" && long != "out" { &["--out", "o"] } else { &[] };
            let from: &[&str] = if name == "warm" { &["--vocabulary"] } else { &[] };
            let words = [&["upcycle", name, &flag, "- a", &flag, "--json"], more, from].concat();
            let matches = parse(&words).unwrap_or_else(|error| panic!("{words:?}: {error}"));
            let found = matches.subcommand().unwrap().1.get_raw(arg.get_id().as_str()).unwrap().next_back();
            assert_eq!(found.unwrap(), "--json", "{words:?}");
        }
    }
    // A flag without a value may be repeated too.
    assert!(parse(&["upcycle", "run", "--json", "--json", "--stats", "--stats"]).is_ok());
    assert!(parse(&["upcycle", "run", "--prompt", "x", "--prompt-file", "y"]).is_err());
}
