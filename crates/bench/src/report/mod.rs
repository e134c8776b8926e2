//! Shows results: as a self-contained HTML page and as text for a terminal.
//!
//! Both show the same tables and never panic, whatever the numbers are: a figure that is not a number is shown as a dash,
//! and entries with an unknown arm are left out with a warning.
//!
//! ```text
//! Results ─> view ─> tables ─┬─> page (with figures drawn by chart)
//!                            └─> text
//! ```

mod chart;
mod cost_svg;
mod error;
mod facts;
mod figures;
mod headline;
mod notices;
mod numbers;
mod page;
mod table;
mod tables;
mod text;
mod view;

#[cfg(test)]
mod tests;

use crate::results::{Cost, Results};

pub use error::ReportError;

/// `report.html`: one page that needs no other file, no network and no JavaScript.
///
/// It is also well-formed XML. All text from the results is escaped.
///
/// # Errors
/// [`ReportError`], which no results should cause.
pub fn html(results: &Results) -> Result<String, ReportError> {
    page::render(&view::View::new(results))
}

/// The cost of passes by their rows, as one SVG image. `caption` names the engine and the machine.
///
/// # Errors
/// [`ReportError`], which no costs should cause.
pub fn cost_svg(costs: &[Cost], caption: &str) -> Result<String, ReportError> {
    cost_svg::render(costs, caption)
}

/// The tables as text for a terminal of `width` columns. With 80 columns each cell fits one line unless names are long.
pub fn text(results: &Results, width: usize) -> String {
    text::render(&view::View::new(results), width)
}
