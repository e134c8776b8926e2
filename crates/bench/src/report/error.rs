//! Errors of reports.

use std::error::Error;

/// Why a report could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// The template of the page failed.
    #[error("the page template failed; this is a bug of this program")]
    Page(#[from] minijinja::Error),
    /// A chart failed.
    #[error("the chart \"{title}\" could not be drawn; this is a bug of this program")]
    Chart {
        /// The title of the chart.
        title: String,
        /// The cause.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}
