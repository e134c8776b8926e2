//! The tables of the page and of the text.

mod answers;
mod run;
mod speed;
mod steps;

pub(crate) use answers::{equality, margins, verdicts, wrong};
pub(crate) use run::{missing, models, skipped};
pub(crate) use speed::{BRIEF, FULL, by_group, of_group, overall};
pub(crate) use steps::{costs, predictions, sources, time};
