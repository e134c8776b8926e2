//! Where the tokens and the seconds of a step come from.

use crate::report::numbers::{change, factor, milliseconds, percent, ratio};
use crate::report::table::{Cell, Column, Table};
use crate::report::view::View;
use crate::results::{Cost, Prediction, Steps};

/// What each arm should earn by what its trees cost.
///
/// The three factors between quotient and measurement, and the gap in words, are columns only where `full` is set.
pub(crate) fn predictions(view: &View<'_>, full: bool) -> Table {
    let mut columns = vec![Column::words("arm")];
    columns.extend(["n", "MAT(n)", "t(n+1)/t(1)", "quotient", "measured", "gap"].map(Column::number));
    if full {
        columns.extend(["trees", "passes", "overhead"].map(Column::number));
        columns.push(Column::prose("why"));
    }
    let mut table = Table::new("Prediction and measurement", columns).with_note(
        "Quotient: tokens a step over what a pass of n + 1 rows costs in passes of one. The speed-up is exactly \
         quotient x trees x passes x overhead: what trees that were not filled saved, how the passes went against \
         the cost curve, and what was not a pass. Gaps above 5 % are explained.",
    );
    for setup in &view.setups {
        let rows: Vec<_> =
            setup.arms.iter().filter_map(|arm| Some((arm, arm.overall?.prediction.as_ref()?))).collect();
        if rows.is_empty() {
            continue;
        }
        table.section(setup.name);
        for (arm, prediction) in rows {
            let mut cells = vec![
                Cell::new(arm.marked()),
                Cell::new(prediction.nodes.map_or_else(|| "auto".to_owned(), |nodes| nodes.to_string())),
            ];
            cells.extend(predicted(prediction, full));
            table.row(cells);
        }
    }
    table
}

fn predicted(prediction: &Prediction, full: bool) -> Vec<Cell> {
    let Prediction { tokens_per_step, cost_ratio, quotient, measured, trees, passes, overhead, .. } =
        prediction;
    let mut cells =
        Vec::from([tokens_per_step, cost_ratio, quotient, measured].map(|v| Cell::new(ratio(*v))));
    cells.push(Cell::new(change(measured / quotient - 1.0)));
    if full {
        cells.extend([trees, passes, overhead].map(|value| Cell::new(factor(*value))));
        cells.push(Cell::maybe(prediction.explanation.clone()));
    }
    cells
}

/// What each source of each arm's drafter proposed.
pub(crate) fn sources(view: &View<'_>) -> Table {
    let mut columns = vec![Column::words("arm"), Column::words("source")];
    columns.extend(["proposed", "accepted", "accepted per node"].map(Column::number));
    let mut table = Table::new("Drafts by source", columns)
        .with_note("A node that several sources proposed counts for each of them.");
    for setup in &view.setups {
        let rows = setup.arms.iter().filter_map(|arm| Some((arm, arm.overall?.steps.as_ref()?)));
        let rows: Vec<_> = rows.filter(|(_, steps)| !steps.sources.is_empty()).collect();
        if rows.is_empty() {
            continue;
        }
        table.section(setup.name);
        for (arm, steps) in rows {
            for (place, source) in steps.sources.iter().enumerate() {
                table.row(vec![
                    Cell::new(if place == 0 { arm.marked() } else { String::new() }),
                    Cell::new(&source.name),
                    Cell::new(source.drafted.to_string()),
                    Cell::new(source.accepted.to_string()),
                    Cell::new(factor(source.accepted as f64 / source.drafted as f64)),
                ]);
            }
        }
    }
    table
}

/// Where each arm's decoding time goes.
pub(crate) fn time(view: &View<'_>) -> Table {
    let mut columns = vec![Column::words("arm")];
    columns.extend(
        ["ms a step", "draft", "forward", "accept", "commit", "observe", "steps"].map(Column::number),
    );
    let mut table = Table::new("Time of a step", columns).with_note(
        "Draft: growing the tree. Forward: the model's pass. Accept: choosing tokens and walking down the tree. \
         Commit: keeping the accepted path. Observe: what the drafter learns.",
    );
    for setup in &view.setups {
        let rows: Vec<_> =
            setup.arms.iter().filter_map(|arm| Some((arm, arm.overall?.steps.as_ref()?))).collect();
        if rows.is_empty() {
            continue;
        }
        table.section(setup.name);
        for (arm, steps) in rows {
            let mut cells = vec![Cell::new(arm.marked())];
            cells.extend(split(steps));
            table.row(cells);
        }
    }
    table
}

fn split(steps: &Steps) -> Vec<Cell> {
    let time = &steps.time;
    let parts = [time.draft, time.forward, time.accept, time.commit, time.observe];
    let total: f64 = parts.iter().sum();
    let mut cells = vec![Cell::new(milliseconds(total / steps.count as f64))];
    cells.extend(parts.map(|part| Cell::new(percent(part / total))));
    cells.push(Cell::new(steps.count.to_string()));
    cells
}

/// What a pass costs by its rows, each curve beside the others.
pub(crate) fn costs(view: &View<'_>) -> Table {
    let costs = &view.results.costs;
    let mut columns = vec![Column::number("rows")];
    for cost in costs {
        columns.push(Column::number(format!("{}, {} cached: ms", cost.setup, cost.context)));
        columns.push(Column::number("t(n)/t(1)"));
    }
    let mut table = Table::new("What a pass costs by its rows", columns)
        .with_note("Medians, measured in this run. A pass over n draft nodes has n + 1 rows.");
    let mut rows: Vec<usize> = costs.iter().flat_map(|cost| cost.rows.iter().copied()).collect();
    rows.sort_unstable();
    rows.dedup();
    for n in rows {
        let mut cells = vec![Cell::new(n.to_string())];
        for cost in costs {
            let seconds = seconds_of(cost, n);
            let one = seconds_of(cost, 1);
            cells.push(Cell::maybe(seconds.map(milliseconds)));
            cells.push(Cell::maybe(seconds.zip(one).map(|(seconds, one)| ratio(seconds / one))));
        }
        table.row(cells);
    }
    table
}

fn seconds_of(cost: &Cost, rows: usize) -> Option<f64> {
    cost.rows.iter().zip(&cost.seconds).find(|&(&n, _)| n == rows).map(|(_, &seconds)| seconds)
}
