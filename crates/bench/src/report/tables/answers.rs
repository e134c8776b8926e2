//! Whether the answers are those of plain decoding.

use crate::report::numbers::factor;
use crate::report::table::{Cell, Column, Table, Tone};
use crate::report::view::View;
use crate::results::{Equality, EqualityCount, Record};

/// `58 exact, 2 margin`; what is wrong stands first.
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

/// Prompts by verdict, for each arm.
pub(crate) fn verdicts(view: &View<'_>) -> Table {
    let heads = ["exact", "within margin", "WRONG", "differs (peer)", "unknown"];
    let columns = std::iter::once(Column::words("arm")).chain(heads.map(Column::number)).collect();
    let mut table = Table::new("Answers held against plain decoding's", columns)
        .with_note("Each prompt counts once, with the worst of its rounds.");
    for setup in &view.setups {
        let rows: Vec<_> = setup.arms.iter().filter_map(|arm| Some((arm, arm.overall?.equality))).collect();
        if rows.is_empty() {
            continue;
        }
        table.section(setup.name);
        for (arm, count) in rows {
            let shown = |prompts: usize, tone: Tone| {
                Cell::toned(prompts.to_string(), if prompts == 0 { Tone::Quiet } else { tone })
            };
            table.row(vec![
                Cell::new(arm.marked()),
                shown(count.exact, Tone::Plain),
                shown(count.within_margin, Tone::Plain),
                shown(count.wrong, Tone::Bad),
                shown(count.differs, Tone::Plain),
                shown(count.unknown, Tone::Plain),
            ]);
        }
    }
    table
}

/// Each wrong answer and what was found.
pub(crate) fn wrong(view: &View<'_>) -> Table {
    let mut columns = place();
    columns.extend([Column::number("parts at token"), Column::prose("what was found")]);
    let mut table = Table::new("Wrong answers", columns);
    for record in &view.results.records {
        if let Equality::Wrong { at, reason } = &record.equality {
            let mut cells = cells(view, record);
            cells.extend([Cell::new(at.to_string()), Cell::toned(reason, Tone::Bad)]);
            table.row(cells);
        }
    }
    table
}

/// Each answer that parts where rounding explains it.
pub(crate) fn margins(view: &View<'_>) -> Table {
    let mut columns = place();
    columns.extend(["parts at token", "gap", "change", "cap"].map(Column::number));
    let mut table = Table::new("Answers within the margin of rounding", columns).with_note(
        "Gap: how far plain decoding's two best scores lie apart at that token. Change: the largest change of a \
         logit between the two passes there. Cap: the largest change that the backend states for itself.",
    );
    for record in &view.results.records {
        if let Equality::WithinMargin { at, gap, change, cap } = record.equality {
            let mut cells = cells(view, record);
            cells.push(Cell::new(at.to_string()));
            cells.extend([gap, change, cap].map(|value| Cell::new(small(value))));
            table.row(cells);
        }
    }
    table
}

fn place() -> Vec<Column> {
    vec![Column::words("arm"), Column::words("prompt"), Column::words("group"), Column::number("round")]
}

fn cells(view: &View<'_>, record: &Record) -> Vec<Cell> {
    let round = (record.round as u128 + 1).to_string();
    vec![
        Cell::new(view.name(record.arm)),
        Cell::new(&record.question),
        Cell::new(&record.group),
        Cell::new(round),
    ]
}

/// Differences of logits may be far below a thousandth.
fn small(value: f64) -> String {
    if value.is_finite() && value != 0.0 && value.abs() < 0.01 {
        format!("{value:.1e}")
    } else {
        factor(value)
    }
}
