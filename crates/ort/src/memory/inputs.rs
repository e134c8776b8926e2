//! What the host writes for a pass.

use ort::value::TensorRef;
use upcycle_core::{DraftTree, tree_masks};

/// Tokens, positions, mask and wanted rows of a pass.
#[derive(Debug, Default)]
pub(crate) struct Inputs {
    tokens: Vec<i64>,
    depths: Vec<u32>,
    positions: Vec<i64>,
    /// `[rows, rows]`
    bias: Vec<f32>,
    /// The nodes that pass the head.
    wanted: Vec<i64>,
}

impl Inputs {
    /// Lays out a tree behind `committed` tokens.
    pub(crate) fn lay_out(
        &mut self,
        tree: &DraftTree,
        committed: usize,
        wanted: impl Iterator<Item = usize>,
    ) {
        let Self { tokens, depths, positions, bias, wanted: nodes } = self;
        tokens.clear();
        tokens.extend(tree.tokens().iter().map(|&token| i64::from(token)));
        tree_masks::positions(tree, committed, depths);
        positions.clear();
        positions.extend(depths.iter().map(|&position| i64::from(position)));
        tree_masks::additive_mask(tree, 0, bias);
        nodes.clear();
        nodes.extend(wanted.map(|node| node as i64));
    }

    /// Rows of the pass.
    pub(crate) fn rows(&self) -> usize {
        self.tokens.len()
    }

    /// Rows that pass the head.
    pub(crate) fn wanted(&self) -> usize {
        self.wanted.len()
    }

    /// Bytes of all.
    pub(crate) fn bytes(&self) -> u64 {
        (8 * (self.tokens.len() + self.positions.len() + self.wanted.len()) + 4 * self.bias.len()) as u64
    }

    /// Tokens, positions and wanted rows as tensors.
    pub(crate) fn whole(&self) -> ort::Result<[TensorRef<'_, i64>; 3]> {
        fn vector(values: &[i64]) -> ort::Result<TensorRef<'_, i64>> {
            TensorRef::from_array_view(([values.len()], values))
        }
        Ok([vector(&self.tokens)?, vector(&self.positions)?, vector(&self.wanted)?])
    }

    /// The mask as a tensor.
    pub(crate) fn bias(&self) -> ort::Result<TensorRef<'_, f32>> {
        let rows = self.rows();
        TensorRef::from_array_view(([rows, rows], &self.bias[..]))
    }
}
