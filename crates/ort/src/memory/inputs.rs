//! What the host writes for a pass.

use ort::value::TensorRef;
use upcycle_core::{DraftTree, tree_masks};

/// Tokens, positions, mask and output rows of a pass.
#[derive(Debug, Default)]
pub(crate) struct PassInputs {
    tokens: Vec<i64>,
    positions_u32: Vec<u32>,
    positions: Vec<i64>,
    /// Among the rows of the pass, `[rows, rows]`.
    mask: Vec<f32>,
    /// The nodes whose logits are computed.
    output_rows: Vec<i64>,
}

impl PassInputs {
    /// Lays out a tree after `committed` tokens; the logits of `output_rows` are computed.
    pub(crate) fn lay_out(
        &mut self,
        tree: &DraftTree,
        committed: usize,
        output_rows: impl Iterator<Item = usize>,
    ) {
        self.tokens.clear();
        self.tokens.extend(tree.tokens().iter().map(|&token| i64::from(token)));
        tree_masks::positions(tree, committed, &mut self.positions_u32);
        self.positions.clear();
        self.positions.extend(self.positions_u32.iter().map(|&position| i64::from(position)));
        tree_masks::additive_mask(tree, 0, &mut self.mask);
        self.output_rows.clear();
        self.output_rows.extend(output_rows.map(|node| node as i64));
    }

    /// The rows of the pass.
    pub(crate) fn rows(&self) -> usize {
        self.tokens.len()
    }

    /// The rows whose logits are computed.
    pub(crate) fn output_rows(&self) -> usize {
        self.output_rows.len()
    }

    /// The size of all inputs together.
    pub(crate) fn bytes(&self) -> u64 {
        let integers = self.tokens.len() + self.positions.len() + self.output_rows.len();
        (8 * integers + 4 * self.mask.len()) as u64
    }

    /// Tokens, positions and output rows as tensors.
    pub(crate) fn integer_tensors(&self) -> ort::Result<[TensorRef<'_, i64>; 3]> {
        fn vector(values: &[i64]) -> ort::Result<TensorRef<'_, i64>> {
            TensorRef::from_array_view(([values.len()], values))
        }
        Ok([vector(&self.tokens)?, vector(&self.positions)?, vector(&self.output_rows)?])
    }

    /// The mask as a tensor, `[rows, rows]`.
    pub(crate) fn mask_tensor(&self) -> ort::Result<TensorRef<'_, f32>> {
        let rows = self.rows();
        TensorRef::from_array_view(([rows, rows], &self.mask[..]))
    }
}
