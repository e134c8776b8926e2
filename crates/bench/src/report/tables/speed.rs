//! How fast each arm is.

use crate::report::numbers::{self, bytes, percent, rate, ratio, seconds};
use crate::report::table::{Cell, Column, Kind, Table, Tone};
use crate::report::view::{ArmView, Outcome, View};
use crate::results::{Estimate, Summary};

use super::equality;

/// One column of a table of arms.
pub(crate) struct Measure {
    head: &'static str,
    kind: Kind,
    cell: fn(&ArmView<'_>, &Summary) -> Cell,
}

const SPEEDUP: Measure = Measure {
    head: "speed-up [95\u{a0}%]",
    kind: Kind::Number,
    cell: |_, summary| speedup(summary.speedup, |speedup| numbers::estimate(speedup, ratio)),
};
const RATE: Measure = Measure {
    head: "tok/s",
    kind: Kind::Number,
    cell: |_, summary| Cell::new(rate(summary.tokens_per_second.value)),
};
const RATE_INTERVAL: Measure = Measure {
    head: "tokens/s [95\u{a0}%]",
    kind: Kind::Number,
    cell: |_, summary| Cell::new(numbers::estimate(summary.tokens_per_second, rate)),
};
const ACCEPTED: Measure = Measure {
    head: "tok/step",
    kind: Kind::Number,
    cell: |_, summary| Cell::maybe(summary.tokens_per_step.map(ratio)),
};
const NODES: Measure = Measure {
    head: "nodes",
    kind: Kind::Number,
    cell: |_, summary| Cell::maybe(summary.nodes_per_step.map(rate)),
};
const TEXTS: Measure = Measure {
    head: "answers",
    kind: Kind::Words,
    cell: |_, summary| {
        let (text, tone) = equality(summary.equality);
        Cell::toned(text, tone)
    },
};
const PROMPTS: Measure = Measure {
    head: "prompts",
    kind: Kind::Number,
    cell: |_, summary| Cell::new(summary.prompts.to_string()),
};
const FIRST_TOKEN: Measure = Measure {
    head: "first token",
    kind: Kind::Number,
    cell: |_, summary| Cell::new(seconds(summary.first_token_seconds)),
};
const PREFILL: Measure = Measure {
    head: "prompt tokens/s",
    kind: Kind::Number,
    cell: |_, summary| Cell::new(rate(summary.prefill_tokens_per_second)),
};
const DRAFTING: Measure = Measure {
    head: "drafting",
    kind: Kind::Number,
    cell: |_, summary| Cell::maybe(summary.drafting_share.map(percent)),
};
const PEAK: Measure = Measure {
    head: "peak memory",
    kind: Kind::Number,
    cell: |_, summary| Cell::maybe(summary.peak_memory.map(bytes)),
};
const TABLES: Measure = Measure {
    head: "drafter memory",
    kind: Kind::Number,
    cell: |arm, summary| {
        let steps = summary.steps.as_ref().filter(|_| arm.drafts());
        Cell::maybe(steps.map(|steps| bytes(steps.drafter_memory)))
    },
};

/// What fits a terminal.
pub(crate) const BRIEF: &[Measure] = &[SPEEDUP, RATE, ACCEPTED, NODES, TEXTS];

/// Everything.
pub(crate) const FULL: &[Measure] =
    &[SPEEDUP, RATE_INTERVAL, ACCEPTED, NODES, FIRST_TOKEN, PREFILL, DRAFTING, PEAK, TABLES, PROMPTS, TEXTS];

/// Each arm over all prompts.
pub(crate) fn overall(view: &View<'_>, measures: &[Measure]) -> Table {
    arms(view, "All prompts", measures, |arm| arm.overall)
}

/// Each arm over the prompts of a group.
pub(crate) fn of_group(view: &View<'_>, group: usize, measures: &[Measure]) -> Table {
    let name = view.groups.get(group).copied().unwrap_or_default();
    arms(view, name, measures, |arm| arm.by_group.get(group).copied().flatten())
}

fn arms<'a>(
    view: &View<'a>,
    title: &str,
    measures: &[Measure],
    pick: impl Fn(&ArmView<'a>) -> Option<&'a Summary>,
) -> Table {
    let column = |measure: &Measure| Column { head: measure.head.to_owned(), kind: measure.kind };
    let columns = std::iter::once(Column::words("arm")).chain(measures.iter().map(column)).collect();
    let mut table = Table::new(title, columns);
    for setup in &view.setups {
        let rows: Vec<_> = setup.arms.iter().filter_map(|arm| Some((arm, pick(arm)?))).collect();
        if rows.is_empty() {
            continue;
        }
        table.section(setup.name);
        for (arm, summary) in rows {
            let cells = measures.iter().map(|measure| (measure.cell)(arm, summary));
            table.row(std::iter::once(Cell::new(arm.marked())).chain(cells).collect());
        }
    }
    table
}

/// The speed-up of each arm in each of the groups `from..to`, or of all.
pub(crate) fn by_group(view: &View<'_>, groups: std::ops::Range<usize>) -> Table {
    let names = view.groups.get(groups.clone()).unwrap_or_default();
    let columns = std::iter::once(Column::words("arm")).chain(names.iter().map(Column::number)).collect();
    let mut table = Table::new("Speed-up by group", columns);
    for setup in &view.setups {
        let rows: Vec<_> = setup
            .arms
            .iter()
            .filter(|arm| arm.by_group.iter().flatten().any(|s| s.speedup.is_some()))
            .collect();
        if rows.is_empty() {
            continue;
        }
        table.section(setup.name);
        for arm in rows {
            let summaries = arm.by_group.get(groups.clone()).unwrap_or_default();
            let cells = summaries
                .iter()
                .map(|summary| speedup(summary.and_then(|summary| summary.speedup), |s| ratio(s.value)));
            table.row(std::iter::once(Cell::new(arm.marked())).chain(cells).collect());
        }
    }
    table
}

fn speedup(speedup: Option<Estimate>, form: fn(Estimate) -> String) -> Cell {
    let Some(speedup) = speedup else { return Cell::maybe(None) };
    let tone = match Outcome::of(speedup) {
        Outcome::Faster => Tone::Good,
        Outcome::Slower => Tone::Bad,
        Outcome::Unclear => Tone::Plain,
    };
    Cell::toned(form(speedup), tone)
}
