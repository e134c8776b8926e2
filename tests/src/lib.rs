//! Tests that cross the crates, and what they share: the reference trace.
#![forbid(unsafe_code)]

pub mod model;
pub mod reference;
