//! Statistics of steps and the cost of passes.

use crate::report::numbers::{change, factor, milliseconds, percent, ratio};
use crate::report::table::{Cell, Column, Table};
use crate::report::view::{ArmView, View};
use crate::results::{Cost, Prediction, SourceCount, Steps};

/// The predicted and the measured speed-up of each arm. With `full`, also the factors between them and the explanation.
pub(crate) fn predictions(view: &View<'_>, full: bool) -> Table {
    let mut columns = vec![Column::words("arm")];
    columns.extend(["n", "MAT(n)", "t(n+1)/t(1)", "quotient", "measured", "gap"].map(Column::number));
    if full {
        columns.extend(["trees", "passes", "overhead"].map(Column::number));
        columns.push(Column::prose("why"));
    }
    let table = Table::new("Prediction and measurement", columns).with_note(
        "Quotient: tokens per step over the relative cost of a pass of n + 1 rows. The speed-up is exactly quotient x \
         trees x passes x overhead: the gain from smaller trees, the cost of the passes against the cost curve, and \
         the time outside passes. Gaps above 5 % are explained.",
    );
    table.with_arms(view, |arm| {
        let Some(prediction) = arm.overall.and_then(|overall| overall.prediction.as_ref()) else {
            return Vec::new();
        };
        let nodes = prediction.nodes.map_or_else(|| "auto".to_owned(), |nodes| nodes.to_string());
        let mut cells = vec![Cell::new(arm.marked()), Cell::new(nodes)];
        cells.extend(predicted(prediction, full));
        vec![cells]
    })
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

/// Draft nodes of each arm by source.
pub(crate) fn sources(view: &View<'_>) -> Table {
    let mut columns = vec![Column::words("arm"), Column::words("source")];
    columns.extend(["proposed", "accepted", "accepted per node"].map(Column::number));
    Table::new("Drafts by source", columns)
        .with_note("A node proposed by several sources counts for each of them.")
        .with_arms(view, |arm| {
            let sources = steps_of(arm).map(|steps| &*steps.sources).unwrap_or_default();
            let row = |(index, source): (usize, &SourceCount)| {
                vec![
                    Cell::new(if index == 0 { arm.marked() } else { String::new() }),
                    Cell::new(&source.name),
                    Cell::new(source.drafted.to_string()),
                    Cell::new(source.accepted.to_string()),
                    Cell::new(factor(source.accepted as f64 / source.drafted as f64)),
                ]
            };
            sources.iter().enumerate().map(row).collect()
        })
}

/// The decoding time of each arm by part.
pub(crate) fn time(view: &View<'_>) -> Table {
    let mut columns = vec![Column::words("arm")];
    columns
        .extend(["ms/step", "draft", "forward", "accept", "commit", "observe", "steps"].map(Column::number));
    let table = Table::new("Time of a step", columns).with_note(
        "Draft: growing the tree. Forward: the model's pass. Accept: choosing tokens and the accepted path. Commit: \
         keeping the accepted path. Observe: learning of the drafter.",
    );
    table.with_arms(view, |arm| {
        let row = |steps| std::iter::once(Cell::new(arm.marked())).chain(split(steps)).collect();
        steps_of(arm).map(row).into_iter().collect()
    })
}

fn steps_of<'a>(arm: &ArmView<'a>) -> Option<&'a Steps> {
    arm.overall?.steps.as_ref()
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

/// The cost of passes by their rows, one column pair per curve.
pub(crate) fn costs(view: &View<'_>) -> Table {
    let costs = &view.results.costs;
    let mut columns = vec![Column::number("rows")];
    for cost in costs {
        columns.push(Column::number(format!("{}, {} cached: ms", cost.setup, cost.context)));
        columns.push(Column::number("t(n)/t(1)"));
    }
    let mut table = Table::new("Cost of a pass by its rows", columns)
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
