//! Drawings as inline SVG, with `plotters`.
//!
//! A panel is [`WIDTH`] wide and stands alone on a phone; on a larger screen panels stand side by side.

mod bars;
mod ink;
mod lines;

use std::io;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use serde::Serialize;

use super::ReportError;
use super::numbers::one_line;

pub(crate) use bars::{Bar, Bars, tick};
pub(crate) use ink::{Ink, PEER_DRAFT, PEER_PLAIN, PLAIN};
pub(crate) use lines::{Line, Lines, Point, Scale, share};

/// Width of a panel, in pixels at its natural size.
const WIDTH: i32 = 330;

/// Units of a drawing in a pixel: `plotters` rounds to whole units, which would show as uneven bars.
const FINE: i32 = 10;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), DrawingAreaErrorKind<io::Error>>;

/// Panels that show one thing, and what their colours mean. The page's template reads its fields.
#[derive(Debug, Serialize)]
pub(crate) struct Figure {
    /// Names the figure within the page.
    pub(crate) id: &'static str,
    pub(crate) title: &'static str,
    /// How to read it.
    pub(crate) note: &'static str,
    pub(crate) legend: Vec<Key>,
    pub(crate) panels: Vec<Panel>,
}

/// What one colour means.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Key {
    pub(crate) name: String,
    pub(crate) ink: Ink,
}

/// One drawing.
#[derive(Debug, Serialize)]
pub(crate) struct Panel {
    title: String,
    /// What it shows, for those who do not see it.
    label: String,
    /// Width and height in the drawing's units.
    width: u32,
    height: u32,
    /// An SVG element.
    svg: String,
}

/// A figure that can be drawn: a finite one, of a size that axes can name.
pub(crate) fn drawable(value: f64) -> Option<f64> {
    (value.is_finite() && (0.0..=1e9).contains(&value)).then_some(value)
}

/// Draws a panel of a height in pixels.
fn panel(
    title: &str,
    label: &str,
    height: i32,
    paint: impl FnOnce(&Area<'_>) -> Drawn,
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

/// The drawing's units for pixels.
const fn units(pixels: i32) -> i32 {
    pixels * FINE
}

/// A text style: size in pixels, and which point of the text is given by its place.
fn font(size: f64, ink: Ink, across: HPos) -> TextStyle<'static> {
    // The SVG backend divides by 1.24.
    let size = size * 1.24 * f64::from(FINE);
    ("sans-serif", size).into_font().color(&ink.color()).pos(Pos::new(across, VPos::Center))
}

/// Lines of a width in pixels.
fn stroke(ink: Ink, pixels: f64) -> ShapeStyle {
    ink.color().stroke_width((pixels * f64::from(FINE)) as u32)
}

/// Text without control characters, shortened in its middle, since names differ at both ends.
fn shortened(text: &str, most: usize) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_name_keeps_both_of_its_ends() {
        assert_eq!(shortened("prompt-lookup:16", 16), "prompt-lookup:16");
        assert_eq!(shortened("prompt-lookup-of-old:16", 11), "promp…ld:16");
    }

    #[test]
    fn only_figures_that_an_axis_can_name_are_drawn() {
        for value in [f64::NAN, f64::INFINITY, -1.0, 1e10] {
            assert_eq!(drawable(value), None);
        }
        assert_eq!(drawable(0.0), Some(0.0));
    }
}
