//! The speed of each arm.

use crate::report::numbers::{self, bytes, percent, rate, ratio, seconds};
use crate::report::table::{Cell, Column, ColumnKind, Table, Tone};
use crate::report::view::{ArmView, SpeedupVerdict, View};
use crate::results::{Estimate, Summary};

use super::answers::equality;

/// One column of a table of arms.
pub(crate) struct ArmColumn {
    head: &'static str,
    kind: ColumnKind,
    cell: fn(&ArmView<'_>, &Summary) -> Cell,
}

const fn number(head: &'static str, cell: fn(&ArmView<'_>, &Summary) -> Cell) -> ArmColumn {
    ArmColumn { head, kind: ColumnKind::Number, cell }
}

const fn words(head: &'static str, cell: fn(&ArmView<'_>, &Summary) -> Cell) -> ArmColumn {
    ArmColumn { head, kind: ColumnKind::Words, cell }
}

const SPEEDUP: ArmColumn = number("speed-up [95\u{a0}%]", |_, summary| {
    speedup(summary.speedup, |speedup| numbers::estimate(speedup, ratio))
});
const RATE: ArmColumn = number("tok/s", |_, summary| Cell::new(rate(summary.tokens_per_second.value)));
const RATE_INTERVAL: ArmColumn = number("tokens/s [95\u{a0}%]", |_, summary| {
    Cell::new(numbers::estimate(summary.tokens_per_second, rate))
});
const TOKENS_PER_STEP: ArmColumn =
    number("tok/step", |_, summary| Cell::maybe(summary.tokens_per_step.map(ratio)));
const NODES: ArmColumn = number("nodes", |_, summary| Cell::maybe(summary.nodes_per_step.map(rate)));
const TEXTS: ArmColumn = words("answers", |_, summary| {
    let (text, tone) = equality(summary.equality);
    Cell::toned(text, tone)
});
const PROMPTS: ArmColumn = number("prompts", |_, summary| Cell::new(summary.prompts.to_string()));
const FIRST_TOKEN: ArmColumn =
    number("first token", |_, summary| Cell::new(seconds(summary.first_token_seconds)));
const PREFILL: ArmColumn =
    number("prompt tokens/s", |_, summary| Cell::new(rate(summary.prefill_tokens_per_second)));
const DRAFTING: ArmColumn = number("drafting", |_, summary| Cell::maybe(summary.drafting_share.map(percent)));
const PEAK: ArmColumn = number("peak memory", |_, summary| Cell::maybe(summary.peak_memory.map(bytes)));
const TABLES: ArmColumn = number("drafter memory", |arm, summary| {
    let steps = summary.steps.as_ref().filter(|_| arm.drafts());
    Cell::maybe(steps.map(|steps| bytes(steps.drafter_memory)))
});

/// The columns for a terminal.
pub(crate) const BRIEF: &[ArmColumn] = &[SPEEDUP, RATE, TOKENS_PER_STEP, NODES, TEXTS];

/// All columns.
pub(crate) const FULL: &[ArmColumn] = &[
    SPEEDUP,
    RATE_INTERVAL,
    TOKENS_PER_STEP,
    NODES,
    FIRST_TOKEN,
    PREFILL,
    DRAFTING,
    PEAK,
    TABLES,
    PROMPTS,
    TEXTS,
];

/// Each arm over all prompts.
pub(crate) fn overall(view: &View<'_>, shown: &[ArmColumn]) -> Table {
    arms(view, "All prompts", shown, |arm| arm.overall)
}

/// Each arm over the prompts of a group.
pub(crate) fn of_group(view: &View<'_>, group: usize, shown: &[ArmColumn]) -> Table {
    let name = view.groups.get(group).copied().unwrap_or_default();
    arms(view, name, shown, |arm| arm.by_group.get(group).copied().flatten())
}

fn arms<'a>(
    view: &View<'a>,
    title: &str,
    shown: &[ArmColumn],
    pick: impl Fn(&ArmView<'a>) -> Option<&'a Summary>,
) -> Table {
    let column = |column: &ArmColumn| Column { head: column.head.to_owned(), kind: column.kind };
    let columns = std::iter::once(Column::words("arm")).chain(shown.iter().map(column)).collect();
    Table::new(title, columns).with_arms(view, |arm| {
        let Some(summary) = pick(arm) else { return Vec::new() };
        let cells = shown.iter().map(|column| (column.cell)(arm, summary));
        vec![std::iter::once(Cell::new(arm.marked())).chain(cells).collect()]
    })
}

/// The speed-up of each arm in each of these groups.
pub(crate) fn by_group(view: &View<'_>, groups: std::ops::Range<usize>) -> Table {
    let names = view.groups.get(groups.clone()).unwrap_or_default();
    let columns = std::iter::once(Column::words("arm")).chain(names.iter().map(Column::number)).collect();
    Table::new("Speed-up by group", columns).with_arms(view, |arm| {
        if arm.by_group.iter().flatten().all(|summary| summary.speedup.is_none()) {
            return Vec::new();
        }
        let summaries = arm.by_group.get(groups.clone()).unwrap_or_default();
        let cells = summaries
            .iter()
            .map(|summary| speedup(summary.and_then(|summary| summary.speedup), |s| ratio(s.value)));
        vec![std::iter::once(Cell::new(arm.marked())).chain(cells).collect()]
    })
}

fn speedup(speedup: Option<Estimate>, form: fn(Estimate) -> String) -> Cell {
    let Some(speedup) = speedup else { return Cell::maybe(None) };
    let tone = match SpeedupVerdict::from_speedup(speedup) {
        SpeedupVerdict::Faster => Tone::Good,
        SpeedupVerdict::Slower => Tone::Bad,
        SpeedupVerdict::Unclear => Tone::Plain,
    };
    Cell::toned(form(speedup), tone)
}
