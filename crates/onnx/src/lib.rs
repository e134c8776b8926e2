//! The part of the ONNX schema that Upcycle reads and writes ([`schema`]), and the layout of the graphs that score draft
//! trees ([`layout`]): what the exporter and the ONNX Runtime backend have to agree on. [`standard`] gives graphs of other
//! exporters that layout.
//!
//! ```
//! use upcycle_onnx::schema::{Message, Model, OperatorSet};
//!
//! let opsets = vec![OperatorSet { domain: String::new(), version: 23 }];
//! let model = Model { ir_version: 10, opsets, ..Model::default() };
//! assert_eq!(Model::decode(&model.encode_to_vec()[..])?, model);
//! # Ok::<(), upcycle_onnx::schema::DecodeError>(())
//! ```
#![forbid(unsafe_code)]

#[cfg(feature = "export")]
pub mod export;
pub mod layout;
pub mod schema;
pub mod standard;
