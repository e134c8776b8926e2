//! Comparisons of answers with plain decoding.

use crate::report::numbers::factor;
use crate::report::table::{Cell, Column, Table, Tone};
use crate::report::view::View;
use crate::results::{Equality, EqualityCount, Record};

/// `58 exact, 2 margin`. Wrong answers come first.
pub(crate) fn equality(count: EqualityCount) -> (String, Tone) {
    let parts = [
        (count.wrong, "WRONG"),
        (count.exact, "exact"),
        (count.within_margin, "margin"),
        (count.differs, "differ"),
        (count.unknown, "unknown"),
    ];
    let said: Vec<String> = parts
        .iter()
        .filter(|(prompts, _)| *prompts > 0)
        .map(|(prompts, verdict)| format!("{prompts} {verdict}"))
        .collect();
    let tone = if count.wrong > 0 { Tone::Bad } else { Tone::Plain };
    (if said.is_empty() { "none".to_owned() } else { said.join(", ") }, tone)
}

/// Prompts by verdict for each arm.
pub(crate) fn verdicts(view: &View<'_>) -> Table {
    let heads = ["exact", "within margin", "WRONG", "differs (peer)", "unknown"];
    let columns = std::iter::once(Column::words("arm")).chain(heads.map(Column::number)).collect();
    let shown = |prompts: usize, tone: Tone| {
        Cell::toned(prompts.to_string(), if prompts == 0 { Tone::Quiet } else { tone })
    };
    Table::new("Answers compared with plain decoding's", columns)
        .with_note("Each prompt counts once, with the worst of its rounds.")
        .with_arms(view, |arm| {
            let Some(overall) = arm.overall else { return Vec::new() };
            let count = overall.equality;
            vec![vec![
                Cell::new(arm.marked()),
                shown(count.exact, Tone::Plain),
                shown(count.within_margin, Tone::Plain),
                shown(count.wrong, Tone::Bad),
                shown(count.differs, Tone::Plain),
                shown(count.unknown, Tone::Plain),
            ]]
        })
}

/// All wrong answers.
pub(crate) fn wrong(view: &View<'_>) -> Table {
    let mut columns = record_columns();
    columns.extend([Column::number("differs at token"), Column::prose("found")]);
    let mut table = Table::new("Wrong answers", columns);
    for record in &view.results.records {
        if let Equality::Wrong { at, reason } = &record.equality {
            let mut cells = record_cells(view, record);
            cells.extend([Cell::new(at.to_string()), Cell::toned(reason, Tone::Bad)]);
            table.row(cells);
        }
    }
    table
}

/// All answers whose difference rounding explains.
pub(crate) fn margins(view: &View<'_>) -> Table {
    let mut columns = record_columns();
    columns.extend(["differs at token", "gap", "change", "cap"].map(Column::number));
    let mut table = Table::new("Answers within the rounding margin", columns).with_note(
        "Gap: the distance of plain decoding's two best perturbed logits at that token. Change: the largest change of a logit \
         between the two passes there. Cap: the largest change that the backend states.",
    );
    for record in &view.results.records {
        if let Equality::WithinMargin { at, gap, change, cap } = record.equality {
            let mut cells = record_cells(view, record);
            cells.push(Cell::new(at.to_string()));
            cells.extend([gap, change, cap].map(|value| Cell::new(small(value))));
            table.row(cells);
        }
    }
    table
}

fn record_columns() -> Vec<Column> {
    vec![Column::words("arm"), Column::words("prompt"), Column::words("group"), Column::number("round")]
}

fn record_cells(view: &View<'_>, record: &Record) -> Vec<Cell> {
    let round = (record.round as u128 + 1).to_string();
    vec![
        Cell::new(view.name(record.arm)),
        Cell::new(&record.question),
        Cell::new(&record.group),
        Cell::new(round),
    ]
}

/// Formats a difference of logits, which may be far below a thousandth.
fn small(value: f64) -> String {
    if value.is_finite() && value != 0.0 && value.abs() < 0.01 {
        format!("{value:.1e}")
    } else {
        factor(value)
    }
}
