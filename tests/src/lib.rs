//! Tests across crates, and their shared helpers: the reference trace and a browser.
#![forbid(unsafe_code)]

pub mod browser;
pub mod reference;

/// The README's Rust, which runs as a test.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
