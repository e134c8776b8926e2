//! The forward pass on the workspace's own kernels: eight rows for little more than one.

mod forward;
mod load;

use upcycle_kernels::{Kernels, Matrix, Rope};

pub(crate) use forward::{Scratch, forward};
pub(crate) use load::{load, unsupported};

/// A sequence's keys and values, by slot: the committed positions first, then rows that wait for a commit.
pub(crate) type Cache = upcycle_kernels::KvCache<f32>;

/// The packed weights of a model, and the threads that multiply them.
#[derive(Debug)]
pub(crate) struct Packed {
    pub(crate) kernels: Kernels,
    rope: Rope,
    embedding: Matrix,
    layers: Vec<Layer>,
    output_norm: Vec<f32>,
    /// The head, where it is not the embedding.
    output: Option<Matrix>,
}

impl Packed {
    fn head(&self) -> &Matrix {
        self.output.as_ref().unwrap_or(&self.embedding)
    }
}

#[derive(Debug)]
struct Layer {
    attention_norm: Vec<f32>,
    query: Matrix,
    key: Matrix,
    value: Matrix,
    /// Biases of queries, keys and values, where the model has them.
    biases: Option<[Vec<f32>; 3]>,
    /// Weights of the normalization of each head's queries and of its keys, where the model has it.
    head_norms: Option<[Vec<f32>; 2]>,
    attention_output: Matrix,
    feed_forward_norm: Vec<f32>,
    gate: Matrix,
    up: Matrix,
    down: Matrix,
}
