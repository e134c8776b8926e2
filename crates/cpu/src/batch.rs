//! The rows of a pass.

use std::ops::Range;

use upcycle_core::TokenId;

/// The rows of a pass, all sequences one after the other.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// `[rows]`.
    pub(crate) tokens: Vec<TokenId>,
    /// Absolute positions, `[rows]`.
    pub(crate) positions: Vec<u32>,
    /// For each row the index of its cache and the slot that its keys and values go to.
    pub(crate) slots: Vec<(usize, usize)>,
    /// The rows whose logits are computed, ascending.
    pub(crate) logits_rows: Vec<usize>,
    ranges: Vec<AttentionRange>,
    /// Rows of the pass that [`AttentionRange::ancestors`] refers to.
    ancestors: Vec<u32>,
}

/// What a row attends to.
#[derive(Clone, Debug)]
struct AttentionRange {
    /// Slots `0..prefix` of its cache.
    prefix: usize,
    /// Then these entries of [`Batch::ancestors`], the row itself last.
    ancestors: Range<usize>,
}

impl Batch {
    /// Removes all rows.
    pub(crate) fn clear(&mut self) {
        self.tokens.clear();
        self.positions.clear();
        self.slots.clear();
        self.logits_rows.clear();
        self.ranges.clear();
        self.ancestors.clear();
    }

    /// What a row attends to: slots `0..prefix` of its cache, then rows of the pass.
    pub(crate) fn attention_range(&self, row: usize) -> (usize, &[u32]) {
        let AttentionRange { prefix, ancestors } = &self.ranges[row];
        (*prefix, &self.ancestors[ancestors.clone()])
    }

    /// How many of the first positions a row does not attend to, in a layer with this window.
    pub(crate) fn outside_window(&self, row: usize, window: Option<usize>) -> usize {
        window.map_or(0, |window| (self.positions[row] as usize + 1).saturating_sub(window))
    }

    /// Adds what the rows of a tree attend to. `committed` slots stand before it, and node `i` goes to slot `first + i`. A chain
    /// right behind the committed slots is read from its slots.
    pub(crate) fn push_tree(&mut self, parents: &[u32], committed: usize, first: usize) {
        let root = self.ranges.len();
        let chain = parents.iter().enumerate().skip(1).all(|(node, &parent)| parent as usize + 1 == node);
        for (node, &parent) in parents.iter().enumerate() {
            if chain && first == committed {
                self.ranges.push(AttentionRange { prefix: committed + node + 1, ancestors: 0..0 });
                continue;
            }
            let start = self.ancestors.len();
            if node > 0 {
                self.ancestors.extend_from_within(self.ranges[root + parent as usize].ancestors.clone());
            }
            self.ancestors.push((root + node) as u32);
            self.ranges.push(AttentionRange { prefix: committed, ancestors: start..self.ancestors.len() });
        }
    }
}
