//! The order of a tree's rows in a batch.
//!
//! llama.cpp's attention sums over the cells of the cache in their order, and a pass's rows take the lowest free cells in the
//! order of the batch. Where a row's sums are to be those of plain decoding to the bit, a sequence's cells must be in the order
//! of its positions, with none free between them that a later row would take. Depth first, the path of first children is a run
//! of rows, and what of an accepted path lies in that run is kept; what lies behind it is scored again by the next pass.

use upcycle_core::DraftTree;

/// The places of nodes in a batch.
#[derive(Debug, Default)]
pub(crate) struct Order {
    /// Of each node, `[len]`.
    places: Vec<usize>,
    /// The node at each place, `[len]`.
    nodes: Vec<usize>,
    /// Where the next child of each node goes, `[len]`.
    next: Vec<usize>,
}

impl Order {
    /// As the nodes stand.
    pub(crate) fn as_they_stand(&mut self, tree: &DraftTree) {
        self.places.clear();
        self.places.extend(0..tree.len());
        self.nodes.clone_from(&self.places);
    }

    /// Depth first, children in their order.
    pub(crate) fn depth_first(&mut self, tree: &DraftTree) {
        let (parents, len) = (tree.parents(), tree.len());
        // The nodes below each, itself included, first.
        self.next.clear();
        self.next.resize(len, 1);
        for node in (1..len).rev() {
            self.next[parents[node] as usize] += self.next[node];
        }
        self.places.clear();
        self.places.resize(len, 0);
        for (node, &parent) in parents.iter().enumerate() {
            let below = self.next[node];
            if node > 0 {
                let parent = parent as usize;
                self.places[node] = self.next[parent];
                self.next[parent] += below;
            }
            self.next[node] = self.places[node] + 1;
        }
        self.nodes.clear();
        self.nodes.resize(len, 0);
        for (node, &place) in self.places.iter().enumerate() {
            self.nodes[place] = node;
        }
    }

    pub(crate) fn places(&self) -> &[usize] {
        &self.places
    }

    pub(crate) fn nodes(&self) -> &[usize] {
        &self.nodes
    }
}

#[cfg(test)]
mod tests {
    use upcycle_core::{NodeId, TreeLimits};

    use super::*;

    /// Every node stands behind its parent, the nodes below one are a run behind it, and siblings keep their order.
    #[test]
    fn depth_first_is_depth_first() {
        let mut rng = fastrand::Rng::with_seed(7);
        let mut order = Order::default();
        for _ in 0..200 {
            let mut tree = DraftTree::new();
            tree.restart(0, TreeLimits::UNBOUNDED);
            for token in 0..rng.u32(..40) {
                tree.push(NodeId::new(rng.usize(..tree.len())), token, None).expect("there is room");
            }
            order.depth_first(&tree);
            let mut stack = vec![NodeId::ROOT];
            let mut expected = Vec::new();
            while let Some(node) = stack.pop() {
                expected.push(node.index());
                let children: Vec<NodeId> = tree.children(node).collect();
                stack.extend(children.into_iter().rev());
            }
            assert_eq!(order.nodes(), expected);
            assert!(order.places().iter().enumerate().all(|(node, &place)| expected[place] == node));
        }
    }
}
