//! The backend in llama.cpp: laws on real and tiny models, refusals, adapters, threads.

mod convert;
mod exact;
mod full;
mod kinds;
mod lora;
mod parts;
mod real;
mod refusals;
mod support;
mod tiny;
