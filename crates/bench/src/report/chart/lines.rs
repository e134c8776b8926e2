//! Line charts over a count, with optional intervals.

use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use super::canvas::{Area, DrawResult, Panel, WIDTH, drawable, font, panel, stroke, tick, units};
use super::color::{ChartColor, GRID, QUIET, TEXT};
use crate::report::error::ReportError;
use crate::report::numbers::ratio;

// Sizes in pixels: the chart and its margins.
const HEIGHT: i32 = 220;
const TOP: i32 = 26;
const LEFT: i32 = 40;
const RIGHT: i32 = 10;
const AXIS: i32 = 36;

/// A line chart.
pub(crate) struct Lines<'a> {
    pub(crate) title: &'a str,
    /// The label of the horizontal axis.
    pub(crate) x_label: &'static str,
    /// The label of the vertical axis.
    pub(crate) y_label: &'static str,
    pub(crate) scale: Scale,
    /// The vertical axis ends here or higher.
    pub(crate) least: f64,
    /// Whether to draw a line at 1.
    pub(crate) one: bool,
    /// Formats values on the vertical axis.
    pub(crate) form: fn(f64) -> String,
    pub(crate) lines: Vec<Line>,
}

/// The scale of the horizontal axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scale {
    Linear,
    Logarithmic,
}

/// One line.
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) color: ChartColor,
    /// Sorted by `count`.
    pub(crate) points: Vec<Point>,
}

/// One point of a line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Point {
    pub(crate) count: usize,
    pub(crate) value: f64,
    pub(crate) interval: Option<(f64, f64)>,
}

impl Scale {
    fn place(self, count: usize) -> f64 {
        match self {
            Self::Linear => count as f64,
            Self::Logarithmic => (count.max(1) as f64).log2(),
        }
    }
}

impl Lines<'_> {
    /// Draws the chart without points that cannot be drawn.
    ///
    /// # Errors
    /// [`ReportError::Chart`].
    pub(crate) fn panel(&self) -> Result<Panel, ReportError> {
        panel(self.title, &self.label(), HEIGHT, |area| self.paint(area))
    }

    fn paint(&self, area: &Area<'_>) -> DrawResult {
        let counts = self.counts();
        let first = counts.first().map_or(0.0, |&count| self.scale.place(count));
        let last = counts.last().map_or(1.0, |&count| self.scale.place(count));
        let margin = (0.06 * (last - first)).max(0.1);
        let limit = self.limit();
        let mut chart = ChartBuilder::on(area)
            .margin_top(units(TOP))
            .margin_right(units(RIGHT))
            .x_label_area_size(units(AXIS))
            .y_label_area_size(units(LEFT))
            .build_cartesian_2d(first - margin..last + margin, 0.0..limit)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .x_labels(0)
            .y_labels(6)
            .bold_line_style(stroke(GRID, 1.0))
            .light_line_style(TRANSPARENT)
            .axis_style(stroke(GRID, 1.0))
            .set_tick_mark_size(LabelAreaPosition::Left, units(5))
            .y_label_style(font(11.0, QUIET, HPos::Right))
            .y_label_formatter(&|value| (self.form)(*value))
            .draw()?;

        let quiet = |across| font(11.0, QUIET, across);
        let (bottom, ends) = (units(HEIGHT - AXIS), (units(LEFT), units(WIDTH - RIGHT)));
        area.draw(&Text::new(self.y_label, (units(2), units(9)), quiet(HPos::Left)))?;
        area.draw(&Text::new(self.x_label, (ends.1, bottom + units(28)), quiet(HPos::Right)))?;
        let mut free = i32::MIN;
        for count in counts {
            let (x, _) = chart.backend_coord(&(self.scale.place(count), 0.0));
            area.draw(&PathElement::new(vec![(x, bottom), (x, bottom + units(4))], stroke(GRID, 1.0)))?;
            let label = count.to_string();
            let half = units(4 * i32::try_from(label.len()).unwrap_or(10));
            if x - half >= free {
                area.draw(&Text::new(label, (x, bottom + units(12)), quiet(HPos::Center)))?;
                free = x + half;
            }
        }

        if self.one {
            let line = vec![(first - margin, 1.0), (last + margin, 1.0)];
            chart.draw_series([PathElement::new(line, stroke(TEXT, 1.2))])?;
        }
        for (place, line) in self.lines.iter().enumerate() {
            // Intervals at the same count are drawn side by side.
            let middle = self.lines.len().saturating_sub(1) as f64 / 2.0;
            let aside = if self.has_intervals() { 0.15 * (place as f64 - middle) } else { 0.0 };
            let aside = margin * aside.clamp(-0.9, 0.9);
            let at = |point: &Point| self.scale.place(point.count) + aside;
            let points: Vec<_> = line.points.iter().filter_map(|p| Some((p, drawable(p.value)?))).collect();
            let path = points.iter().map(|(point, value)| (at(point), *value));
            chart.draw_series(LineSeries::new(path, stroke(line.color, 1.8)))?;
            let color = line.color.rgb();
            for (point, value) in points {
                let interval = point.interval.and_then(|(low, high)| drawable(low).zip(drawable(high)));
                if let Some((low, high)) = interval {
                    let (low, high) = (low.min(limit), high.min(limit));
                    let cap = units(8).unsigned_abs();
                    let bar = ErrorBar::new_vertical(
                        at(point),
                        low,
                        value,
                        high,
                        stroke(line.color, 1.2).filled(),
                        cap,
                    );
                    chart.draw_series([bar])?;
                } else {
                    chart.draw_series([Circle::new((at(point), value), units(3), color.filled())])?;
                }
            }
        }
        Ok(())
    }

    /// The distinct counts of all points, sorted.
    fn counts(&self) -> Vec<usize> {
        let mut counts: Vec<usize> =
            self.lines.iter().flat_map(|line| &line.points).map(|point| point.count).collect();
        counts.sort_unstable();
        counts.dedup();
        counts
    }

    fn has_intervals(&self) -> bool {
        self.lines.iter().flat_map(|line| &line.points).any(|point| point.interval.is_some())
    }

    fn limit(&self) -> f64 {
        let (mut value, mut high) = (self.least, self.least);
        for point in self.lines.iter().flat_map(|line| &line.points) {
            value = value.max(drawable(point.value).unwrap_or_default());
            high = high.max(point.interval.and_then(|(_, high)| drawable(high)).unwrap_or_default());
        }
        1.05 * value.max(high.min(3.0 * value))
    }

    fn label(&self) -> String {
        let line = |line: &Line| {
            let point = |point: &Point| format!("{} at {}", ratio(point.value), point.count);
            let points: Vec<_> = line.points.iter().map(point).collect();
            format!("{}: {}", line.name, points.join(", "))
        };
        let lines: Vec<_> = self.lines.iter().map(line).collect();
        format!("{} by {}, {}. {}", self.y_label, self.x_label, self.title, lines.join("; "))
    }
}

/// A share as an axis label.
pub(crate) fn share(value: f64) -> String {
    format!("{} %", tick(100.0 * value))
}
