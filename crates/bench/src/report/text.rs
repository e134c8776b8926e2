//! The tables as text for a terminal.

use std::fmt::Write as _;

use super::facts;
use super::notices::notices;
use super::numbers::one_line;
use super::table::{Table, paragraph};
use super::tables;
use super::view::View;

/// All tables, at most `width` columns wide. Ends with a line break.
pub(crate) fn render(view: &View<'_>, width: usize) -> String {
    let mut text = paragraph(&facts::summary(view), width);
    text.push_str(&paragraph(&one_line(&view.results.machine.cpu), width));
    for notice in notices(view) {
        text.push('\n');
        text.push_str(&paragraph(&notice, width));
    }
    show(&mut text, width, &tables::overall(view, tables::BRIEF));
    if view.groups.len() > 1 {
        for groups in fitting(view, width) {
            let mut table = tables::by_group(view, groups.clone());
            if groups.start > 0 {
                table.title.push_str(", continued");
            }
            show(&mut text, width, &table);
        }
    }
    show(&mut text, width, &tables::predictions(view, false));
    let explained =
        view.arms().filter_map(|arm| Some((arm, arm.overall?.prediction.as_ref()?.explanation.as_ref()?)));
    for (arm, explanation) in explained {
        text.push_str(&paragraph(&one_line(&format!("- {}: {explanation}", arm.arm.name)), width));
    }
    show(&mut text, width, &tables::wrong(view));
    show(&mut text, width, &tables::missing(view));
    show(&mut text, width, &tables::skipped(view));
    if !view.warnings.is_empty() {
        text.push_str("\nWarnings\n");
        for warning in &view.warnings {
            text.push_str(&paragraph(&format!("- {}", one_line(warning)), width));
        }
    }
    text
}

fn show(text: &mut String, width: usize, table: &Table) {
    if !table.is_empty() {
        let _ = write!(text, "\n{}\n{}", table.title, table.text(width));
    }
}

/// Splits the groups into ranges that fit into `width` columns, each with at least one group.
fn fitting(view: &View<'_>, width: usize) -> Vec<std::ops::Range<usize>> {
    let names = view.setups.iter().map(|setup| setup.name.to_owned());
    let widest = names.chain(view.arms().map(|arm| arm.marked())).map(|name| name.chars().count()).max();
    // Two columns of indent, and two between columns.
    let arm = widest.unwrap_or_default() + 4;
    let mut runs = Vec::new();
    let (mut from, mut used) = (0, arm);
    for (place, group) in view.groups.iter().enumerate() {
        let column = group.chars().count().max(4) + 2;
        if used + column > width && place > from {
            runs.push(from..place);
            (from, used) = (place, arm);
        }
        used += column;
    }
    runs.push(from..view.groups.len());
    runs
}
