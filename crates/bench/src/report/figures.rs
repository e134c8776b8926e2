//! The figures of the page.

use std::collections::BTreeMap;

use crate::results::{ArmKind, Cost, Estimate, Summary};

use super::chart::{
    Bar, Bars, ChartColor, Figure, LegendEntry, Line, Lines, PEER_DRAFT, PEER_PLAIN, PLAIN, Point, Scale,
    drawable, share, tick,
};
use super::error::ReportError;
use super::numbers::{count, rate, ratio};
use super::view::{ArmView, View};

/// The least end of a speed-up axis, so that it contains 1.
const MIN_SPEEDUP_AXIS: f64 = 1.1;

/// All figures with content, by id.
pub(crate) fn all(view: &View<'_>) -> Result<BTreeMap<&'static str, Figure>, ReportError> {
    let figures = [overall(view)?, groups(view)?, sizes(view)?, costs(&view.results.costs)?, depths(view)?];
    Ok(figures
        .into_iter()
        .filter(|figure| !figure.panels.is_empty())
        .map(|figure| (figure.id, figure))
        .collect())
}

/// Speed-up and tokens per second of all arms over all prompts.
fn overall(view: &View<'_>) -> Result<Figure, ReportError> {
    let speedups = bars(view, &|arm| arm.speedup());
    let rates = bars(view, &|arm| arm.overall.map(|summary| summary.tokens_per_second));
    let mut panels = Vec::new();
    if !speedups.is_empty() {
        let limit = Bars::limit(speedups.iter(), MIN_SPEEDUP_AXIS);
        let title = "Speed-up over own plain decoding";
        panels.push(Bars { title, bars: speedups, limit, one: true, form: ratio }.panel()?);
    }
    if !rates.is_empty() {
        let limit = Bars::limit(rates.iter(), 0.01);
        panels.push(Bars { title: "Tokens per second", bars: rates, limit, one: false, form: rate }.panel()?);
    }
    Ok(Figure {
        id: "overall",
        title: "Over all prompts",
        note: "A bar beyond the line at 1 is faster than plain decoding by the same program with the same file. Engines \
               differ in what they compute and count, so compare tokens per second across engines with care. \
               Whiskers are 95 % intervals.",
        legend: legend(view, &[ArmKind::Plain, ArmKind::Draft, ArmKind::PeerPlain, ArmKind::PeerDraft]),
        panels,
    })
}

/// Speed-up by group: one panel per group, all with the same scale.
fn groups(view: &View<'_>) -> Result<Figure, ReportError> {
    let mut panels = Vec::new();
    if view.groups.len() > 1 {
        for (place, name) in view.groups.iter().enumerate() {
            let of = |arm: &ArmView<'_>| arm.by_group.get(place).copied().flatten()?.speedup;
            panels.push((title(view, place, name), bars(view, &of)));
        }
    }
    panels.retain(|(_, bars)| !bars.is_empty());
    let limit = Bars::limit(panels.iter().flat_map(|(_, bars)| bars), MIN_SPEEDUP_AXIS);
    let panels = panels
        .into_iter()
        .map(|(title, bars)| Bars { title: &title, bars, limit, one: true, form: ratio }.panel());
    Ok(Figure {
        id: "groups",
        title: "Speed-up over own plain decoding, by group",
        note: "All panels have the same scale. If an interval contains 1, the result is not clear.",
        legend: legend(view, &[ArmKind::Draft, ArmKind::PeerDraft]),
        panels: panels.collect::<Result<_, _>>()?,
    })
}

/// Speed-up by tree size: one panel per setup, one line per drafter with several sizes.
fn sizes(view: &View<'_>) -> Result<Figure, ReportError> {
    let drafters = view.drafters();
    let mut panels = Vec::new();
    let mut legend = Vec::new();
    for setup in &view.setups {
        let mut lines = Vec::new();
        for (place, &drafter) in drafters.iter().enumerate() {
            let mut points: Vec<Point> = setup
                .drafts()
                .filter(|(arm, _)| arm.arm.kind == ArmKind::Draft && arm.arm.drafter == drafter)
                .filter_map(|(arm, speedup)| {
                    let interval = Some((speedup.low, speedup.high));
                    drawable(speedup.value)?;
                    Some(Point { count: arm.arm.nodes?, value: speedup.value, interval })
                })
                .collect();
            points.sort_by_key(|point| point.count);
            if points.windows(2).any(|pair| pair[0].count < pair[1].count) {
                let key = LegendEntry { name: drafter.to_owned(), color: ChartColor::drafter(place) };
                if !legend.contains(&key) {
                    legend.push(key);
                }
                lines.push(Line { name: drafter.to_owned(), color: ChartColor::drafter(place), points });
            }
        }
        if !lines.is_empty() {
            let title = setup.name;
            let (x_label, y_label) = ("draft nodes per step, at most", "speed-up");
            let chart = Lines {
                title,
                x_label,
                y_label,
                scale: Scale::Logarithmic,
                least: MIN_SPEEDUP_AXIS,
                one: true,
                form: tick,
                lines,
            };
            panels.push(chart.panel()?);
        }
    }
    Ok(Figure {
        id: "sizes",
        title: "Speed-up by tree size",
        note: "Drafters measured with several sizes, on a logarithmic scale. Points of the same size are drawn side by \
               side to keep their intervals apart.",
        legend,
        panels,
    })
}

/// Accepted tokens by depth: one panel per setup and drafter, one line per size.
fn depths(view: &View<'_>) -> Result<Figure, ReportError> {
    let mut sizes: Vec<usize> = drafting(view).filter_map(|(arm, _)| arm.arm.nodes).collect();
    sizes.sort_unstable();
    sizes.dedup();
    let mut legend: Vec<LegendEntry> = Vec::new();
    for (place, size) in sizes.iter().enumerate() {
        let color = ChartColor::ordered(place, sizes.len());
        match legend.last_mut() {
            Some(key) if key.color == color => key.name = format!("{}, {size}", key.name),
            _ => legend.push(LegendEntry { name: size.to_string(), color }),
        }
    }
    for key in &mut legend {
        key.name.push_str(if key.name == "1" { " node" } else { " nodes" });
    }
    let mut panels = Vec::new();
    for setup in &view.setups {
        for drafter in view.drafters() {
            let arms =
                setup.arms.iter().filter(|arm| arm.arm.kind == ArmKind::Draft && arm.arm.drafter == drafter);
            let lines: Vec<Line> = arms
                .filter_map(|arm| {
                    let points = depth_points(arm.overall?)?;
                    let place = arm.arm.nodes.and_then(|nodes| sizes.binary_search(&nodes).ok());
                    let color = place.map_or(PLAIN, |place| ChartColor::ordered(place, sizes.len()));
                    Some(Line { name: arm.label.to_owned(), color, points })
                })
                .collect();
            if !lines.is_empty() {
                let title = format!("{} {drafter}", setup.name);
                let (x_label, y_label) = ("depth", "steps with an accepted node at this depth");
                let chart = Lines {
                    title: &title,
                    x_label,
                    y_label,
                    scale: Scale::Linear,
                    least: 0.05,
                    one: false,
                    form: share,
                    lines,
                };
                panels.push(chart.panel()?);
            }
        }
    }
    Ok(Figure {
        id: "depth",
        title: "Accepted tokens by depth",
        note: "The share of steps whose accepted path reaches each depth.",
        legend,
        panels,
    })
}

/// The cost of a pass by its rows, relative to one row.
pub(crate) fn costs(costs: &[Cost]) -> Result<Figure, ReportError> {
    let curves: Vec<_> = costs.iter().filter_map(|cost| Some((cost, cost_points(cost)?))).collect();
    let mut lines = Vec::new();
    let mut legend = Vec::new();
    for (place, (cost, points)) in curves.into_iter().enumerate() {
        let name = format!("{}, {} cached", cost.setup, count(cost.context, "token", "tokens"));
        legend.push(LegendEntry { name: name.clone(), color: ChartColor::drafter(place) });
        lines.push(Line { name, color: ChartColor::drafter(place), points });
    }
    let (x_label, y_label) = ("rows of a pass, n", "t(n) / t(1)");
    let chart = Lines {
        title: "All setups",
        x_label,
        y_label,
        scale: Scale::Logarithmic,
        least: MIN_SPEEDUP_AXIS,
        one: true,
        form: tick,
        lines,
    };
    Ok(Figure {
        id: "costs",
        title: "Cost of a pass over n rows, relative to one row",
        note: "Drafting pays if it wins more tokens than its rows cost.",
        legend,
        panels: if chart.lines.is_empty() { Vec::new() } else { vec![chart.panel()?] },
    })
}

fn bars<'a>(view: &'a View<'_>, pick: &dyn Fn(&ArmView<'_>) -> Option<Estimate>) -> Vec<Bar<'a>> {
    let drafters = view.drafters();
    let mut bars = Vec::new();
    for setup in &view.setups {
        let mut named = false;
        for arm in &setup.arms {
            let Some(estimate) = pick(arm).filter(|estimate| drawable(estimate.value).is_some()) else {
                continue;
            };
            if !std::mem::replace(&mut named, true) {
                bars.push(Bar::Section(setup.name));
            }
            bars.push(Bar::Of { name: arm.marked(), color: color(arm, &drafters), estimate });
        }
    }
    bars
}

fn color(arm: &ArmView<'_>, drafters: &[&str]) -> ChartColor {
    match arm.arm.kind {
        ArmKind::Plain => PLAIN,
        ArmKind::PeerPlain => PEER_PLAIN,
        ArmKind::PeerDraft => PEER_DRAFT,
        ArmKind::Draft => {
            ChartColor::drafter(drafters.iter().position(|&name| name == arm.arm.drafter).unwrap_or_default())
        }
    }
}

/// The legend of the measured arms of these kinds.
fn legend(view: &View<'_>, kinds: &[ArmKind]) -> Vec<LegendEntry> {
    let drafters = view.drafters();
    let mut legend: Vec<LegendEntry> = Vec::new();
    for arm in view.arms().filter(|arm| arm.overall.is_some() && kinds.contains(&arm.arm.kind)) {
        let name = match arm.arm.kind {
            ArmKind::Plain => "plain decoding",
            ArmKind::PeerPlain => "another program, plain",
            ArmKind::PeerDraft => "another program's drafter",
            ArmKind::Draft => arm.arm.drafter.as_str(),
        };
        let key = LegendEntry { name: name.to_owned(), color: color(arm, &drafters) };
        if !legend.contains(&key) {
            legend.push(key);
        }
    }
    legend
}

fn title(view: &View<'_>, group: usize, name: &str) -> String {
    let prompts =
        view.arms().filter_map(|arm| arm.by_group.get(group).copied().flatten()).map(|s| s.prompts).max();
    match prompts {
        Some(prompts) => format!("{name} ({})", count(prompts, "prompt", "prompts")),
        None => name.to_owned(),
    }
}

fn drafting<'a>(view: &'a View<'_>) -> impl Iterator<Item = (&'a ArmView<'a>, &'a Summary)> {
    view.arms().filter(|arm| arm.arm.kind == ArmKind::Draft).filter_map(|arm| Some((arm, arm.overall?)))
}

fn depth_points(summary: &Summary) -> Option<Vec<Point>> {
    let steps = summary.steps.as_ref()?;
    let mut points = Vec::new();
    for (depth, &accepted) in (1..).zip(&steps.accepted_by_depth) {
        let value = drawable(accepted as f64 / steps.count as f64)?;
        points.push(Point { count: depth, value, interval: None });
    }
    (!points.is_empty()).then_some(points)
}

fn cost_points(cost: &Cost) -> Option<Vec<Point>> {
    let pairs = || cost.rows.iter().zip(&cost.seconds);
    let (_, one) = pairs().find(|&(&rows, _)| rows == 1)?;
    let mut points: Vec<Point> = pairs()
        .filter_map(|(&count, &seconds)| {
            Some(Point { count, value: drawable(seconds / one)?, interval: None })
        })
        .collect();
    points.sort_by_key(|point| point.count);
    (!points.is_empty()).then_some(points)
}
