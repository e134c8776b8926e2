//! The llama.cpp backend: laws on real and tiny models, refusals, adapters, threads.

mod convert;
mod foreign;
mod full;
mod kinds;
mod lora;
mod parts;
mod real;
mod refusals;
mod row_invariance;
mod support;
mod tiny;
