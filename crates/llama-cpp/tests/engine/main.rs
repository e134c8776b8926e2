//! The backend in llama.cpp: laws on real and tiny models, refusals, adapters, threads.

mod convert;
mod lora;
mod real;
mod refusals;
mod support;
mod tiny;
