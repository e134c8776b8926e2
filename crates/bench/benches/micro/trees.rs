//! What is done with a tree of 81 nodes: walking down it, and the views that backends derive from it.

use divan::Bencher;
use upcycle_core::tree_masks::{AncestorSets, LeafPaths, additive_mask, positions};
use upcycle_core::{AcceptedPath, DraftTree, accept};

use crate::VOCABS;
use crate::drafting::{TURNS, recycling};

/// Committed tokens before the tree.
const PREFIX: usize = 256;

/// The walk without the choice of tokens: what is drawn is known.
#[divan::bench(sample_size = TURNS)]
fn accept_walk(bencher: Bencher<'_, '_>) {
    let passes = recycling(VOCABS[0]).passes(TURNS);
    let mut turns = passes.iter().cycle();
    let mut walk = AcceptedPath::default();
    bencher.bench_local(|| {
        if let Some(pass) = turns.next() {
            let mut drawn = pass.walk.sampled.iter().copied();
            // A walk asks as often as it did when it was first gone.
            accept(&pass.tree, &mut walk, |_| drawn.next().ok_or(())).expect("the same walk once more");
        }
        walk.sampled.len()
    });
}

fn view<T>(bencher: Bencher<'_, '_>, mut derive: impl FnMut(&DraftTree) -> T) {
    let passes = recycling(VOCABS[0]).passes(TURNS);
    let mut turns = passes.iter().cycle();
    bencher.bench_local(|| turns.next().map(|pass| derive(&pass.tree)));
}

#[divan::bench(sample_size = TURNS)]
fn view_positions(bencher: Bencher<'_, '_>) {
    let mut out = Vec::new();
    view(bencher, |tree| {
        positions(tree, PREFIX, &mut out);
        out.len()
    });
}

#[divan::bench(sample_size = TURNS)]
fn view_ancestor_sets(bencher: Bencher<'_, '_>) {
    let mut sets = AncestorSets::default();
    view(bencher, |tree| {
        sets.rebuild(tree);
        sets.words()
    });
}

#[divan::bench(sample_size = TURNS)]
fn view_leaf_paths(bencher: Bencher<'_, '_>) {
    let mut paths = LeafPaths::default();
    view(bencher, |tree| {
        paths.rebuild(tree);
        paths.len()
    });
}

/// `[81, 256 + 81]`.
#[divan::bench(sample_size = TURNS)]
fn view_additive_mask(bencher: Bencher<'_, '_>) {
    let mut out = Vec::new();
    view(bencher, |tree| {
        additive_mask(tree, PREFIX, &mut out);
        out.len()
    });
}
