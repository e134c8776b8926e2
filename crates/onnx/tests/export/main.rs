//! The exporter, on the real model and on small generated ones.

mod folder;
mod safetensors;
