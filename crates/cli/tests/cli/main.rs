//! The command line as a person, a script and a pipe see it: the real binary on the real model.

mod bench;
mod commands;
mod harness;
mod many;
mod readme;
mod run;
mod settings;
mod trace;
