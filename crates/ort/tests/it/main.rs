//! The ONNX Runtime backend, with the library that `scripts/setup-ort.sh` fetches: laws, texts, copied bytes, refusals.

mod copies;
mod finite;
mod memories;
mod python;
mod real;
mod refusals;
mod rewrite;
mod safetensors;
mod support;
mod tiny;
