//! The command line as a person, a script and a pipe see it: the real binary on the real model.

#[cfg(feature = "bench")]
mod bench;
mod chat;
mod commands;
#[cfg(feature = "serve")]
mod company;
mod harness;
mod hub;
#[cfg(feature = "llama-cpp")]
mod llama_cpp;
mod many;
#[cfg(feature = "ort")]
mod ort;
mod readme;
mod run;
#[cfg(feature = "serve")]
mod serve;
#[cfg(feature = "serve")]
mod server;
mod settings;
mod trace;
