//! The acceptance rule against brute force over all paths of a tree.

use proptest::prelude::*;
use upcycle_core::{AcceptedPath, DraftTree, NodeId, TokenId, TreeLimits, accept};

fn a_tree() -> impl Strategy<Value = DraftTree> {
    prop::collection::vec((any::<prop::sample::Index>(), 0_u32..3), 0..60).prop_map(|pushes| {
        let mut tree = DraftTree::new();
        tree.reset(0, TreeLimits::UNBOUNDED);
        for (parent, token) in pushes {
            tree.push(NodeId::new(parent.index(tree.len())), token, None).unwrap();
        }
        tree
    })
}

/// Every path from the root to a node.
fn paths(tree: &DraftTree) -> Vec<Vec<NodeId>> {
    let path = |node| {
        let mut path: Vec<NodeId> = std::iter::successors(Some(node), |&node| tree.parent(node)).collect();
        path.reverse();
        path
    };
    tree.nodes().map(path).collect()
}

proptest! {
    #[test]
    fn the_accepted_path_is_the_longest_that_the_model_would_generate(
        tree in a_tree(),
        samples in prop::collection::vec(0_u32..4, 61),
    ) {
        let sample = |node: NodeId| samples[node.index()];
        let generated = |path: &Vec<NodeId>| {
            path.windows(2).all(|pair| tree.tokens()[pair[1].index()] == sample(pair[0]))
        };
        let longest = paths(&tree).into_iter().filter(generated).max_by_key(Vec::len).unwrap();
        let mut accepted = AcceptedPath { nodes: vec![NodeId::new(9)], sampled: vec![9] };
        let mut asked = Vec::new();
        accept(&tree, &mut accepted, |node| {
            asked.push(node);
            Ok::<TokenId, ()>(sample(node))
        })
        .unwrap();
        prop_assert_eq!(&accepted.nodes, &longest);
        prop_assert_eq!(&asked, &longest, "each node of the path is asked once, in order");
        let sampled: Vec<TokenId> = longest.iter().map(|&node| sample(node)).collect();
        prop_assert_eq!(&accepted.sampled, &sampled);
        prop_assert_eq!(tree.child(longest[longest.len() - 1], sampled[sampled.len() - 1]), None);
    }

    #[test]
    fn an_error_ends_the_path_before_its_node(
        tree in a_tree(),
        samples in prop::collection::vec(0_u32..3, 61),
        fails_at in 0_usize..6,
    ) {
        let sample = |node: NodeId| Ok::<TokenId, usize>(samples[node.index()]);
        let mut whole = AcceptedPath::default();
        accept(&tree, &mut whole, sample).unwrap();
        let (mut cut, mut calls) = (AcceptedPath::default(), 0);
        let result = accept(&tree, &mut cut, |node| {
            calls += 1;
            if calls > fails_at { Err(calls) } else { sample(node) }
        });
        let kept = fails_at.min(whole.nodes.len());
        prop_assert_eq!(result, if fails_at < whole.nodes.len() { Err(fails_at + 1) } else { Ok(()) });
        prop_assert_eq!(&cut.nodes[..], &whole.nodes[..kept]);
        prop_assert_eq!(&cut.sampled[..], &whole.sampled[..kept]);
    }
}
