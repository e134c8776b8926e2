//! Peers from outside: what they are called, how they start and end, what they answer.

mod answer;
mod fake;
mod real;
mod spec;
#[cfg(target_os = "linux")]
mod start;
