//! Horizontal bar charts with intervals, grouped by setup.

use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use super::canvas::{
    Area, DrawResult, Panel, SUBPIXELS, WIDTH, drawable, font, panel, shortened, stroke, tick, units,
};
use super::color::{ChartColor, GRID, QUIET, TEXT};
use crate::report::error::ReportError;
use crate::results::Estimate;

// Sizes in pixels.
/// A bar with its gap.
const ROW: i32 = 19;
/// A bar.
const BAR: f64 = 11.0;
/// The name of a setup.
const SECTION: i32 = 24;
// Margins.
// 18 characters of a wide typeface.
const LEFT: i32 = 146;
const RIGHT: i32 = 42;
const TOP: i32 = 2;
/// The axis below the bars.
const AXIS: i32 = 24;

/// A bar chart.
pub(crate) struct Bars<'a> {
    pub(crate) title: &'a str,
    pub(crate) bars: Vec<Bar<'a>>,
    /// The end of the axis: [`limit`](Self::limit) of all panels with the same scale.
    pub(crate) limit: f64,
    /// Whether to draw a line at 1.
    pub(crate) one: bool,
    pub(crate) form: fn(f64) -> String,
}

/// One bar, or the heading of the following bars.
pub(crate) enum Bar<'a> {
    Section(&'a str),
    Of { name: String, color: ChartColor, estimate: Estimate },
}

impl Bars<'_> {
    /// The end of an axis for these bars: all bars fit, and intervals unless they are much longer.
    pub(crate) fn limit<'b>(bars: impl Iterator<Item = &'b Bar<'b>>, least: f64) -> f64 {
        let (mut value, mut high) = (least, least);
        for bar in bars {
            if let Bar::Of { estimate, .. } = bar {
                value = value.max(drawable(estimate.value).unwrap_or_default());
                high = high.max(drawable(estimate.high).unwrap_or_default());
            }
        }
        1.03 * high.min(1.5 * value)
    }

    /// Draws the chart.
    ///
    /// # Errors
    /// [`ReportError::Chart`].
    pub(crate) fn panel(&self) -> Result<Panel, ReportError> {
        let heights = self.bars.iter().map(|bar| if let Bar::Section(_) = bar { SECTION } else { ROW });
        let height: i32 = heights.sum();
        panel(self.title, &self.label(), TOP + height + AXIS, |area| self.paint(area, height))
    }

    fn paint(&self, area: &Area<'_>, height: i32) -> DrawResult {
        let mut chart = ChartBuilder::on(area)
            .margin_top(units(TOP))
            .margin_left(units(LEFT))
            .margin_right(units(RIGHT))
            .x_label_area_size(units(AXIS))
            .build_cartesian_2d(0.0..self.limit, -f64::from(height)..0.0)?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .disable_y_axis()
            .x_labels(5)
            .bold_line_style(stroke(GRID, 1.0))
            .light_line_style(TRANSPARENT)
            .axis_style(stroke(GRID, 1.0))
            .set_tick_mark_size(LabelAreaPosition::Bottom, units(5))
            .x_label_style(font(11.0, QUIET, HPos::Center))
            .x_label_formatter(&|value| tick(*value))
            .draw()?;
        let mut top = 0;
        for bar in &self.bars {
            match bar {
                Bar::Section(name) => {
                    top += SECTION;
                    let place = (0, units(TOP + top - 10));
                    let style = font(12.0, TEXT, HPos::Left);
                    let style = TextStyle { font: style.font.style(FontStyle::Bold), ..style };
                    area.draw(&Text::new(shortened(name, 18), place, style))?;
                }
                Bar::Of { name, color, estimate } => {
                    let middle = f64::from(top) + f64::from(ROW) / 2.0;
                    top += ROW;
                    let row = units(TOP) + (middle * f64::from(SUBPIXELS)) as i32;
                    let style = font(12.0, TEXT, HPos::Right);
                    area.draw(&Text::new(shortened(name, 18), (units(LEFT - 7), row), style.clone()))?;
                    area.draw(&Text::new((self.form)(estimate.value), (units(WIDTH - 2), row), style))?;
                    let clipped = |value| drawable(value).map(|value| value.min(self.limit));
                    let Some(value) = clipped(estimate.value) else { continue };
                    let corners = [(0.0, BAR / 2.0 - middle), (value, -BAR / 2.0 - middle)];
                    chart.draw_series([Rectangle::new(corners, color.rgb().filled())])?;
                    let (Some(low), Some(high)) = (clipped(estimate.low), clipped(estimate.high)) else {
                        continue;
                    };
                    let mut lines = vec![vec![(low, -middle), (high, -middle)]];
                    // An interval beyond the axis has no end mark.
                    let ends = [low, high].into_iter().filter(|&end| end < self.limit);
                    lines.extend(ends.map(|x| vec![(x, 3.0 - middle), (x, -3.0 - middle)]));
                    let whiskers = lines.into_iter().map(|line| PathElement::new(line, stroke(TEXT, 1.2)));
                    chart.draw_series(whiskers)?;
                }
            }
        }
        if self.one {
            let line = vec![(1.0, 0.0), (1.0, -f64::from(height))];
            chart.draw_series([PathElement::new(line, stroke(TEXT, 1.2))])?;
        }
        Ok(())
    }

    fn label(&self) -> String {
        let mut section = "";
        let mut parts = Vec::new();
        for bar in &self.bars {
            match bar {
                Bar::Section(name) => section = name,
                Bar::Of { name, estimate, .. } => {
                    let [value, low, high] = [estimate.value, estimate.low, estimate.high].map(self.form);
                    parts.push(format!("{section} {name} {value} ({low} to {high})"));
                }
            }
        }
        format!("{}: {}", self.title, parts.join("; "))
    }
}
