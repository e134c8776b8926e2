//! What a run found, for people: one self-contained page, a table of numbers, text for a terminal, Markdown.
//!
//! All four say the same of the same [`Results`], and none of them panics on any: a figure that is not a number is
//! shown as a dash, and what speaks of an arm that is not listed is left out, with a warning.
//!
//! ```text
//! Results ─> view ─┬─> tables ─┬─> page (with figures drawn by chart)
//!                  │           ├─> text
//!                  │           └─> markdown
//!                  └─> sheet
//! ```

mod chart;
mod curve;
mod facts;
mod figures;
mod headline;
mod markdown;
mod notices;
mod numbers;
mod page;
mod sheet;
mod table;
mod tables;
mod text;
mod view;

#[cfg(test)]
mod tests;

use std::error::Error;

use crate::results::{Cost, Results};

use view::View;

/// Why a report could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// The page's own template failed.
    #[error("the page could not be laid out; this is a defect of this program")]
    Page(#[from] minijinja::Error),
    /// A drawing failed.
    #[error("the chart \"{title}\" could not be drawn; this is a defect of this program")]
    Chart {
        /// The drawing.
        title: String,
        /// Why not.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The table of numbers could not be written.
    #[error("the table of numbers could not be written")]
    Csv(#[from] csv::Error),
}

/// `report.html`: one page that needs nothing else, neither network nor JavaScript.
///
/// It is well-formed XML too. Whatever the results hold is escaped.
///
/// # Errors
/// [`ReportError::Page`] and [`ReportError::Chart`], which no results should cause.
pub fn html(results: &Results) -> Result<String, ReportError> {
    page::render(&View::new(results))
}

/// `results.csv`, in UTF-8: a header, then a row for each arm over all prompts (its group is `all`) and one for each
/// group it was measured on. A figure that is missing, or is not a number, is an empty cell.
///
/// # Errors
/// [`ReportError::Csv`], which writing into memory should not cause.
pub fn csv(results: &Results) -> Result<Vec<u8>, ReportError> {
    sheet::render(&View::new(results))
}

/// What passes cost by their rows, as one SVG image that stands alone; `caption` says of which engine and machine.
///
/// # Errors
/// [`ReportError`], which no costs should cause.
pub fn cost_svg(costs: &[Cost], caption: &str) -> Result<String, ReportError> {
    curve::render(costs, caption)
}

/// The tables for a terminal of `width` columns; 80 show each cell on one line unless names are long.
pub fn text(results: &Results, width: usize) -> String {
    text::render(&View::new(results), width)
}

/// The tables as GitHub's Markdown, headed by machine, revision and models.
pub fn markdown(results: &Results) -> String {
    markdown::render(&View::new(results))
}
