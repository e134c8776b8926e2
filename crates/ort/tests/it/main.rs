//! The backend on ONNX Runtime's library, which `scripts/setup-ort.sh` fetches: laws, texts, what is copied, refusals.

mod copies;
mod finite;
mod memories;
mod python;
mod real;
mod refusals;
mod safetensors;
mod standard;
mod support;
mod tiny;
