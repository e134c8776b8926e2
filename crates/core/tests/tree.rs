//! Draft trees and what backends derive from them, against a naive model.

use proptest::prelude::*;
use upcycle_core::tree_masks::{AncestorSets, LeafPaths, additive_mask, positions};
use upcycle_core::{DraftTree, NodeId, PushError, TokenId, TreeKind, TreeLimits};

/// A tree as a list of (parent, token), the root first.
type Model = Vec<(usize, TokenId)>;

fn ancestors(model: &Model, node: usize) -> Vec<usize> {
    let mut path = vec![node];
    while path[0] != 0 {
        path.insert(0, model[path[0]].0);
    }
    path
}

fn children(model: &Model, node: usize) -> Vec<usize> {
    (1..model.len()).filter(|&child| model[child].0 == node).collect()
}

fn leaves(model: &Model) -> Vec<usize> {
    (0..model.len()).filter(|&node| children(model, node).is_empty()).collect()
}

fn limits() -> impl Strategy<Value = TreeLimits> {
    let bound = |small| prop_oneof![0..small, Just(usize::MAX)];
    (bound(40_usize), bound(12), bound(9)).prop_map(|(nodes, leaves, depth)| TreeLimits {
        nodes,
        leaves,
        depth,
    })
}

/// A push: parent, token and probability. There are few tokens, so that equal siblings are common.
type Push = (prop::sample::Index, TokenId, Option<f32>);

fn pushes(most: usize) -> impl Strategy<Value = Vec<Push>> {
    prop::collection::vec((any::<prop::sample::Index>(), 0_u32..6, prop::option::of(-1.0_f32..2.0)), 0..most)
}

fn grow(limits: TreeLimits, pushes: &[Push]) -> (DraftTree, Model) {
    let mut tree = DraftTree::new();
    tree.reset(3, limits);
    let mut model = vec![(0, 3)];
    for (parent, token, probability) in pushes {
        let parent = parent.index(model.len());
        let equal = children(&model, parent).into_iter().find(|&child| model[child].1 == *token);
        let mut grown = model.clone();
        grown.push((parent, *token));
        let (deep, broad) = (ancestors(&grown, model.len()).len() - 1, leaves(&grown).len());
        let before = (tree.tokens().to_vec(), tree.parents().to_vec(), tree.leaves());
        match (tree.push(NodeId::new(parent), *token, *probability), equal) {
            (Ok(node), Some(child)) => assert_eq!(node.index(), child, "an equal sibling is the same node"),
            (Ok(node), None) => {
                assert_eq!(node.index(), model.len());
                assert!(model.len() <= limits.nodes && broad <= limits.leaves && deep <= limits.depth);
                assert_eq!(tree.probability(node), probability.map(|p| p.clamp(0.0, 1.0)));
                model = grown;
                continue;
            }
            (Err(full), _) => {
                assert_eq!(equal, None, "an equal sibling needs no limits");
                match full {
                    PushError::Nodes => assert!(model.len() > limits.nodes),
                    PushError::Leaves => assert!(broad > limits.leaves),
                    PushError::Depth => assert!(deep > limits.depth),
                }
            }
        }
        assert_eq!(before, (tree.tokens().to_vec(), tree.parents().to_vec(), tree.leaves()), "unchanged");
    }
    (tree, model)
}

proptest! {
    #[test]
    fn a_tree_is_what_was_pushed_and_fits_its_limits(limits in limits(), pushes in pushes(80)) {
        let (tree, model) = grow(limits, &pushes);
        prop_assert_eq!(tree.len(), model.len());
        prop_assert_eq!(tree.draft_len(), model.len() - 1);
        prop_assert_eq!(tree.leaves(), leaves(&model).len());
        prop_assert_eq!(tree.limits(), limits);
        let depths: Vec<usize> = (0..model.len()).map(|node| ancestors(&model, node).len() - 1).collect();
        prop_assert_eq!(tree.depth(), depths.iter().copied().max().unwrap());
        let shape = match (model.len(), leaves(&model).len()) {
            (1, _) => TreeKind::Plain,
            (_, 1) => TreeKind::Chain,
            _ => TreeKind::Tree,
        };
        prop_assert_eq!(tree.kind(), shape);
        for node in tree.nodes() {
            let index = node.index();
            prop_assert_eq!((tree.parents()[index] as usize, tree.tokens()[index]), model[index]);
            prop_assert!(index == 0 || model[index].0 < index);
            prop_assert_eq!(tree.depths()[index] as usize, depths[index]);
            let below: Vec<usize> = tree.children(node).map(NodeId::index).collect();
            prop_assert_eq!(&below, &children(&model, index));
            prop_assert_eq!(tree.is_leaf(node), below.is_empty());
            let mut tokens: Vec<TokenId> = below.iter().map(|&child| model[child].1).collect();
            for token in 0..7 {
                let child = below.iter().find(|&&child| model[child].1 == token);
                prop_assert_eq!(tree.child(node, token).map(NodeId::index), child.copied());
            }
            tokens.sort_unstable();
            tokens.dedup();
            prop_assert_eq!(tokens.len(), below.len(), "siblings are distinct");
        }
    }

    #[test]
    fn derived_views_match_their_definitions(
        first in pushes(150),
        second in pushes(150),
        prefix_len in 0_usize..20,
    ) {
        let (mut sets, mut paths) = (AncestorSets::default(), LeafPaths::default());
        let (mut at, mut mask) = (Vec::new(), Vec::new());
        // Twice into the same memory: nothing of the first tree may remain.
        for pushes in [first, second] {
            let (tree, model) = grow(TreeLimits::UNBOUNDED, &pushes);
            sets.rebuild(&tree);
            paths.rebuild(&tree);
            positions(&tree, prefix_len, &mut at);
            additive_mask(&tree, prefix_len, &mut mask);
            let width = prefix_len + model.len();
            prop_assert_eq!(mask.len(), model.len() * width);
            prop_assert_eq!(at.len(), model.len());
            for node in 0..model.len() {
                let seen = ancestors(&model, node);
                prop_assert_eq!(at[node] as usize, prefix_len + seen.len() - 1);
                for other in 0..model.len() + 70 {
                    let attends = seen.contains(&other);
                    prop_assert_eq!(sets.contains(NodeId::new(node), NodeId::new(other)), attends);
                    if other < model.len() {
                        let expected = if attends { 0.0 } else { f32::NEG_INFINITY };
                        prop_assert_eq!(mask[node * width + prefix_len + other], expected);
                    }
                }
                prop_assert!(mask[node * width..][..prefix_len].iter().all(|&bias| bias == 0.0));
            }
            let found: Vec<Vec<usize>> =
                paths.iter().map(|path| path.iter().map(|node| node.index()).collect()).collect();
            let expected: Vec<Vec<usize>> =
                leaves(&model).iter().map(|&leaf| ancestors(&model, leaf)).collect();
            prop_assert_eq!(paths.len(), expected.len());
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn a_chain_is_one_path_of_its_tokens(tokens in prop::collection::vec(0_u32..5, 1..50)) {
        let chain = DraftTree::chain(&tokens);
        prop_assert_eq!(chain.tokens(), &tokens[..]);
        prop_assert_eq!(chain.leaves(), 1);
        prop_assert_eq!(chain.depth(), tokens.len() - 1);
        for (node, &token) in chain.nodes().zip(&tokens[1..]) {
            prop_assert_eq!(chain.child(node, token), Some(NodeId::new(node.index() + 1)));
        }
    }

    #[test]
    fn a_tree_stays_within_its_limits(limits in limits(), pushes in pushes(60)) {
        let (tree, _) = grow(limits, &pushes);
        // A tree always has one leaf, even if the limits allow none.
        prop_assert!(tree.draft_len() <= limits.nodes && tree.leaves() <= limits.leaves.max(1));
        prop_assert!(tree.depth() <= limits.depth && tree.kind() <= limits.kind());
    }
}
