//! Traces one generation, step by step, and shows each draft tree on an HTML page.
//!
//! [`collect()`] decodes a prompt and records every step. [`page()`] makes one HTML file that needs no network. Tracing does
//! not change the text.

mod collect;
mod label;
mod page;
mod record;
mod recording;

pub use collect::{TraceError, collect};
pub use page::page;
pub use record::{About, Learns, Ranked, SCHEMA, Trace, TraceStep, TracedPrompt};
pub use recording::{Recording, RecordingDrafter, SHOWN};
