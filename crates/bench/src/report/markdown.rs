//! The tables as Markdown.

use std::fmt::Write as _;

use super::facts::{self, Fact};
use super::notices::notices;
use super::numbers::one_line;
use super::table::{Table, escaped};
use super::tables;
use super::view::View;

/// The whole document; ends with a line break.
pub(crate) fn render(view: &View<'_>) -> String {
    let mut text = format!("# Results\n\n{}\n", escaped(&facts::summary(view)));
    for notice in notices(view) {
        let _ = write!(text, "\n**{}**\n", escaped(&notice));
    }
    let mut facts_of = |title: &str, facts: &[Fact]| {
        let _ = write!(text, "\n## {title}\n\n");
        for Fact { name, value } in facts {
            let _ = writeln!(text, "- {name}: {}", escaped(value));
        }
    };
    facts_of("Machine", &facts::machine(view.results));
    facts_of("Build", &facts::build(view.results));
    facts_of("Settings", &facts::settings(view.results));
    let mut shown = vec![tables::models(view), tables::overall(view, tables::FULL)];
    if view.groups.len() > 1 {
        shown.push(tables::by_group(view, 0..view.groups.len()));
    }
    shown.extend([
        tables::predictions(view, true),
        tables::costs(view),
        tables::sources(view),
        tables::time(view),
        tables::verdicts(view),
        tables::wrong(view),
        tables::margins(view),
        tables::missing(view),
        tables::skipped(view),
    ]);
    for table in shown.iter().filter(|table| !table.is_empty()) {
        section(&mut text, table);
    }
    if !view.warnings.is_empty() {
        text.push_str("\n## Warnings\n\n");
        for warning in &view.warnings {
            let _ = writeln!(text, "- {}", escaped(&one_line(warning)));
        }
    }
    text
}

fn section(text: &mut String, table: &Table) {
    let _ = write!(text, "\n## {}\n\n", escaped(&table.title));
    if let Some(note) = table.note {
        let _ = write!(text, "{note}\n\n");
    }
    text.push_str(&table.markdown());
}
