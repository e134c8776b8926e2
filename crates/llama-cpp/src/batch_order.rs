//! The order of a tree's rows in a batch.
//!
//! llama.cpp's attention sums over the cells of the cache in their order, and a pass's rows take the lowest free cells in the
//! order of the batch. For a row to have exactly the sums of plain decoding, the cells of a sequence must be in the order of its
//! positions, with no free cell in between that a later row would take. In depth-first order the path of first children is a
//! run of rows. A commit keeps what lies in that run of an accepted path; the next pass scores the rest again.

use upcycle_core::DraftTree;

/// Which row of a batch each node is.
#[derive(Debug, Default)]
pub(crate) struct BatchOrder {
    /// The row of each node, `[len]`.
    indices: Vec<usize>,
    /// The node of each row, `[len]`.
    nodes: Vec<usize>,
    /// The row for the next child of each node, `[len]`.
    next_child: Vec<usize>,
}

impl BatchOrder {
    /// By node.
    pub(crate) fn by_node(&mut self, tree: &DraftTree) {
        self.indices.clear();
        self.indices.extend(0..tree.len());
        self.nodes.clone_from(&self.indices);
    }

    /// Depth first, children in their order.
    pub(crate) fn depth_first(&mut self, tree: &DraftTree) {
        let (parents, len) = (tree.parents(), tree.len());
        // At first the size of the subtree of each node.
        self.next_child.clear();
        self.next_child.resize(len, 1);
        for node in (1..len).rev() {
            self.next_child[parents[node] as usize] += self.next_child[node];
        }
        self.indices.clear();
        self.indices.resize(len, 0);
        for (node, &parent) in parents.iter().enumerate() {
            let size = self.next_child[node];
            if node > 0 {
                let parent = parent as usize;
                self.indices[node] = self.next_child[parent];
                self.next_child[parent] += size;
            }
            self.next_child[node] = self.indices[node] + 1;
        }
        self.nodes.clear();
        self.nodes.resize(len, 0);
        for (node, &index) in self.indices.iter().enumerate() {
            self.nodes[index] = node;
        }
    }

    pub(crate) fn indices(&self) -> &[usize] {
        &self.indices
    }

    pub(crate) fn nodes(&self) -> &[usize] {
        &self.nodes
    }
}

#[cfg(test)]
mod tests {
    use upcycle_core::{NodeId, TreeLimits};

    use super::*;

    #[test]
    fn depth_first_order_is_that_of_a_stack() {
        let mut rng = fastrand::Rng::with_seed(7);
        let mut order = BatchOrder::default();
        for _ in 0..200 {
            let mut tree = DraftTree::new();
            tree.reset(0, TreeLimits::UNBOUNDED);
            for token in 0..rng.u32(..40) {
                tree.push(NodeId::new(rng.usize(..tree.len())), token, None).expect("the tree has no limits");
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
            assert!(order.indices().iter().enumerate().all(|(node, &index)| expected[index] == node));
        }
    }
}
