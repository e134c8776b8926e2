//! Charts as inline SVG, drawn with `plotters`.

mod bars;
mod canvas;
mod color;
mod lines;

pub(crate) use bars::{Bar, Bars};
pub(crate) use canvas::{Figure, LegendEntry, drawable, tick};
pub(crate) use color::{ChartColor, PEER_DRAFT, PEER_PLAIN, PLAIN};
pub(crate) use lines::{Line, Lines, Point, Scale, share};
