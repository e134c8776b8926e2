//! Laws 1 and 2: what a row of a tree depends on.

use upcycle_core::{DraftTree, NodeId, TreeLimits};

use crate::law::{Broken, Law};
use crate::probe::{Checked, Probe, leaf_paths, path_to, shown, tokens_of};
use crate::subject::Subject;

/// Law 1: each path from root to leaf scores like a chain in a new sequence.
///
/// # Errors
/// [`Broken`].
pub fn paths_are_chains(subject: &Subject) -> Result<(), Broken> {
    let mut probe = Probe::new(subject, Law::PathsAreChains)?;
    let mut cases: Vec<_> = Vec::new();
    for (case, prefix) in probe.prefixes() {
        cases.push((case, prefix, probe.tree(1)));
    }
    if let Some(tree) = probe.wide_tree() {
        cases.push(("the case with a wide tree".into(), probe.prefix(), tree));
    }
    for (case, prefix, tree) in cases {
        let paths = leaf_paths(&tree);
        let mut chains = Vec::new();
        for path in &paths {
            probe.at(format!("{case}, the chain of {path:?} of {}", shown(&tree)));
            let all = [&prefix[..], &tokens_of(&tree, path)].concat();
            // In one pass, or its end in one pass if it does not fit.
            let split = all.len().saturating_sub(probe.verifier.limits().max_rows);
            let mut rows = probe.in_new_sequence(&all[..split], &DraftTree::chain(&all[split..]))?;
            chains.push(rows.split_off(rows.len() - path.len()));
        }
        let seq = probe.open()?;
        probe.prefill(seq, &prefix)?;
        let rows = probe.score(seq, &tree)?;
        for (path, chain) in paths.iter().zip(&chains) {
            probe.at(format!("{case}, path {path:?} of {}", shown(&tree)));
            for (node, expected) in path.iter().zip(chain) {
                probe.same(*node, expected, &rows[node.index()])?;
            }
        }
        probe.verifier.close(seq);
    }
    Ok(())
}

/// Law 2: siblings are invisible to each other. Another token at a node changes only the rows of its subtree.
///
/// # Errors
/// [`Broken`].
pub fn siblings_are_invisible(subject: &Subject) -> Result<(), Broken> {
    let mut probe = Probe::new(subject, Law::SiblingsAreInvisible)?;
    for case in 0..subject.cases {
        let (prefix, tree) = (probe.prefix(), probe.tree(1));
        let seq = probe.open()?;
        probe.prefill(seq, &prefix)?;
        let before = probe.score(seq, &tree)?;
        for changed in tree.nodes().skip(1) {
            let other = with_another_token(&mut probe, &tree, changed)?;
            let after = probe.score(seq, &other)?;
            probe.at(format!("case {case}, another token at {changed} of {}", shown(&tree)));
            for node in tree.nodes().filter(|&node| !path_to(&tree, node).contains(&changed)) {
                probe.same(node, &before[node.index()], &after[node.index()])?;
            }
        }
        probe.verifier.close(seq);
    }
    Ok(())
}

/// The same tree with another token at one node.
fn with_another_token(probe: &mut Probe<'_>, tree: &DraftTree, changed: NodeId) -> Checked<DraftTree> {
    let parent = tree.parent(changed).unwrap_or(NodeId::ROOT);
    let taken = |token| tree.children(parent).any(|child| tree.tokens()[child.index()] == token);
    let token = (0..1000).map(|_| probe.token()).find(|&token| !taken(token));
    let Some(token) = token else {
        return Err(probe.out_of_reach("give it more tokens (Subject::tokens)"));
    };
    let mut other = DraftTree::new();
    other.reset(tree.tokens()[0], TreeLimits::UNBOUNDED);
    for node in tree.nodes().skip(1) {
        let token = if node == changed { token } else { tree.tokens()[node.index()] };
        let parent = tree.parent(node).unwrap_or(NodeId::ROOT);
        // The same pushes in the same order give the same node numbers.
        if other.push(parent, token, None) != Ok(node) {
            return Err(probe.differs(format!("{node} under {parent}"), "another node"));
        }
    }
    Ok(other)
}
