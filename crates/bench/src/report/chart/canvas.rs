//! The common parts of charts: panels, figures, styles.
//!
//! A panel is [`WIDTH`] wide. Larger screens show panels side by side.

use std::io;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use serde::Serialize;

use super::color::ChartColor;
use crate::report::error::ReportError;
use crate::report::numbers::{one_line, ratio};

/// The natural width of a panel in pixels.
pub(super) const WIDTH: i32 = 330;

/// Drawing units per pixel. `plotters` rounds to whole units, so one per pixel would give uneven bars.
pub(super) const SUBPIXELS: i32 = 10;

pub(super) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
pub(super) type DrawResult = Result<(), DrawingAreaErrorKind<io::Error>>;

/// Panels with a common legend. The page template reads its fields.
#[derive(Debug, Serialize)]
pub(crate) struct Figure {
    /// Its id within the page.
    pub(crate) id: &'static str,
    pub(crate) title: &'static str,
    /// How to read it.
    pub(crate) note: &'static str,
    pub(crate) legend: Vec<LegendEntry>,
    pub(crate) panels: Vec<Panel>,
}

/// The meaning of one colour.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct LegendEntry {
    pub(crate) name: String,
    pub(crate) color: ChartColor,
}

/// One chart.
#[derive(Debug, Serialize)]
pub(crate) struct Panel {
    title: String,
    /// A description for screen readers.
    label: String,
    /// Width and height in drawing units.
    width: u32,
    height: u32,
    /// An SVG element.
    svg: String,
}

/// `value`, if it can be drawn: finite, not negative and not too large for an axis.
pub(crate) fn drawable(value: f64) -> Option<f64> {
    (value.is_finite() && (0.0..=1e9).contains(&value)).then_some(value)
}

/// Draws a panel with a height in pixels.
pub(super) fn panel(
    title: &str,
    label: &str,
    height: i32,
    paint: impl FnOnce(&Area<'_>) -> DrawResult,
) -> Result<Panel, ReportError> {
    let title = one_line(title);
    let (width, height) = (units(WIDTH).unsigned_abs(), units(height).unsigned_abs());
    let mut svg = String::new();
    let area = SVGBackend::with_string(&mut svg, (width, height)).into_drawing_area();
    paint(&area)
        .and_then(|()| area.present())
        .map_err(|source| ReportError::Chart { title: title.clone(), source: Box::new(source) })?;
    drop(area);
    Ok(Panel { label: one_line(label), title, width, height, svg })
}

/// Pixels in drawing units.
pub(super) const fn units(pixels: i32) -> i32 {
    pixels * SUBPIXELS
}

/// A text style with a size in pixels and a horizontal anchor.
pub(super) fn font(size: f64, color: ChartColor, across: HPos) -> TextStyle<'static> {
    // The SVG backend divides by 1.24.
    let size = size * 1.24 * f64::from(SUBPIXELS);
    ("sans-serif", size).into_font().color(&color.rgb()).pos(Pos::new(across, VPos::Center))
}

/// A line style with a width in pixels.
pub(super) fn stroke(color: ChartColor, pixels: f64) -> ShapeStyle {
    color.rgb().stroke_width((pixels * f64::from(SUBPIXELS)) as u32)
}

/// Text without control characters, shortened in the middle because names differ at both ends.
pub(super) fn shortened(text: &str, most: usize) -> String {
    let text = one_line(text);
    let count = text.chars().count();
    if count <= most {
        return text;
    }
    let tail = most / 2;
    let head = most.saturating_sub(tail + 1);
    let begin: String = text.chars().take(head).collect();
    let end: String = text.chars().skip(count - tail).collect();
    format!("{begin}…{end}")
}

/// An axis label without unnecessary decimals.
pub(crate) fn tick(value: f64) -> String {
    let text = ratio(value);
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_name_keeps_both_of_its_ends() {
        assert_eq!(shortened("prompt-lookup:16", 16), "prompt-lookup:16");
        assert_eq!(shortened("prompt-lookup-of-old:16", 11), "promp…ld:16");
    }

    #[test]
    fn only_finite_and_moderate_values_are_drawn() {
        for value in [f64::NAN, f64::INFINITY, -1.0, 1e10] {
            assert_eq!(drawable(value), None);
        }
        assert_eq!(drawable(0.0), Some(0.0));
    }
}
