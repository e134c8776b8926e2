//! The input of a forward pass: trees, and the rows for which it returns candidates.

use crate::token::{Row, SeqId};
use crate::tree::DraftTree;

/// One sequence's part of a forward pass: a tree after the committed tokens.
///
/// A prefill chunk is a chain ([`DraftTree::chain`]).
#[derive(Clone, Copy, Debug)]
pub struct TreeInput<'a> {
    /// The sequence; it may occur only once in a pass.
    pub seq: SeqId,
    /// The tree. Node `i` has the position `committed + depth(i)`. It attends to all committed tokens, its ancestors and
    /// itself.
    pub tree: &'a DraftTree,
    /// The rows for which the model computes logits. Each gets candidates.
    pub rows: RowSelection,
}

/// Which rows of a tree get candidates. Only these rows can also be read as full logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowSelection {
    /// Every node.
    All,
    /// Only the last node.
    Last,
    /// The last node and every `n`-th before it: `len - 1`, `len - 1 - n`, … (0 counts as 1).
    Every(usize),
}

impl RowSelection {
    /// How many of `len` rows are selected.
    #[must_use]
    pub fn count(self, len: usize) -> usize {
        match self {
            RowSelection::All => len,
            RowSelection::Last => len.min(1),
            RowSelection::Every(stride) => len.div_ceil(stride.max(1)),
        }
    }

    /// The selected ones of `len` rows, in ascending order.
    pub fn nodes(self, len: usize) -> impl ExactSizeIterator<Item = usize> {
        let stride = self.stride(len);
        let count = self.count(len);
        (0..count).map(move |i| len - 1 - (count - 1 - i) * stride)
    }

    fn stride(self, len: usize) -> usize {
        match self {
            RowSelection::All => 1,
            RowSelection::Last => len.max(1),
            RowSelection::Every(stride) => stride.max(1),
        }
    }

    /// The index of `node` among the selected ones of `len` rows.
    fn index(self, node: usize, len: usize) -> Option<usize> {
        let after = len.checked_sub(1)?.checked_sub(node)?;
        let stride = self.stride(len);
        after.is_multiple_of(stride).then(|| self.count(len) - 1 - after / stride)
    }
}

/// The requested rows of a pass, in the order of its logits `[rows, vocab]`: by input, then by node.
#[derive(Clone, Debug, Default)]
pub struct RowLayout {
    inputs: Vec<InputRows>,
    len: usize,
}

#[derive(Clone, Copy, Debug)]
struct InputRows {
    first: usize,
    tree_len: usize,
    selection: RowSelection,
}

impl RowLayout {
    /// Replaces the layout by that of `inputs`. Allocates only if there are more inputs than in any earlier
    /// pass.
    pub fn reset(&mut self, inputs: &[TreeInput<'_>]) {
        self.inputs.clear();
        self.len = 0;
        for input in inputs {
            let (tree_len, selection) = (input.tree.len(), input.rows);
            self.inputs.push(InputRows { first: self.len, tree_len, selection });
            self.len += selection.count(tree_len);
        }
    }

    /// The number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no row is requested.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The nodes of `input` that are requested, ascending. Empty for an unknown input.
    pub fn nodes(&self, input: usize) -> impl ExactSizeIterator<Item = usize> + use<> {
        let none = InputRows { first: 0, tree_len: 0, selection: RowSelection::All };
        let InputRows { tree_len, selection, .. } = self.inputs.get(input).copied().unwrap_or(none);
        selection.nodes(tree_len)
    }

    /// All rows in order.
    pub fn iter(&self) -> impl Iterator<Item = Row> {
        (0..self.inputs.len()).flat_map(|input| self.nodes(input).map(move |node| Row { input, node }))
    }

    /// The index of `row`; `None` if it is not requested.
    #[must_use]
    pub fn index(&self, row: Row) -> Option<usize> {
        let input = self.inputs.get(row.input)?;
        Some(input.first + input.selection.index(row.node, input.tree_len)?)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn counts_nodes_and_indices_of_a_selection_agree(len in 1_usize..200, stride in 0_usize..70) {
            for rows in [RowSelection::All, RowSelection::Last, RowSelection::Every(stride)] {
                let nodes: Vec<usize> = rows.nodes(len).collect();
                prop_assert_eq!(nodes.len(), rows.count(len));
                prop_assert_eq!(nodes.last(), Some(&(len - 1)));
                for node in 0..len {
                    prop_assert_eq!(rows.index(node, len), nodes.iter().position(|&n| n == node));
                }
            }
        }

        #[test]
        fn rows_are_numbered_in_order(lens in prop::collection::vec((1_usize..9, 0_usize..4), 0..5)) {
            let trees: Vec<DraftTree> = lens.iter().map(|&(len, _)| DraftTree::chain(&vec![0; len])).collect();
            let inputs: Vec<TreeInput<'_>> = trees
                .iter()
                .zip(&lens)
                .map(|(tree, &(_, stride))| TreeInput { seq: SeqId::new(0), tree, rows: RowSelection::Every(stride) })
                .collect();
            let mut layout = RowLayout::default();
            layout.reset(&inputs);
            let rows: Vec<Row> = layout.iter().collect();
            prop_assert_eq!(rows.len(), layout.len());
            prop_assert!(rows.is_sorted());
            for (index, row) in rows.iter().enumerate() {
                prop_assert_eq!(layout.index(*row), Some(index));
            }
            prop_assert_eq!(layout.index(Row { input: lens.len(), node: 0 }), None);
        }
    }
}
