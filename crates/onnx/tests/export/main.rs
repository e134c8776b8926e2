//! The exporter: folders from the real model and from models made here.

mod folder;
mod safetensors;
