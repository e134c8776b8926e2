//! Times passes of draft trees of several sizes.
//!
//! `cargo run --release -p upcycle-cpu --example passes -- MODEL.gguf`

use std::time::Instant;

use upcycle_core::{DraftTree, NodeId, RowSelection, TopK, TreeInput, TreeLimits, Verifier};
use upcycle_cpu::{CpuVerifier, Model, Options};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("which model? give the path of a GGUF file")?;
    passes(path.as_ref())
}

fn passes(path: &std::path::Path) -> Result<(), Box<dyn std::error::Error>> {
    let mut verifier = CpuVerifier::new(Model::load(path, &Options::default())?);
    let seq = verifier.open()?;
    let mut top = TopK::new(8);
    for nodes in [0_u32, 1, 3, 7, 15] {
        // A star: every node is a guess of the next token.
        let mut tree = DraftTree::new();
        tree.reset(1, TreeLimits::UNBOUNDED);
        for token in 0..nodes {
            tree.push(NodeId::ROOT, token + 2, None)?;
        }
        let start = Instant::now();
        verifier.forward(&[TreeInput { seq, tree: &tree, rows: RowSelection::All }], &mut top)?;
        println!("{:>2} rows: {:.2} ms", tree.len(), start.elapsed().as_secs_f64() * 1e3);
        // Nothing of it is kept.
        verifier.truncate(seq, 0)?;
    }
    verifier.close(seq);
    Ok(())
}

#[test]
fn it_runs() {
    passes(&upcycle_testkit::real_model()).unwrap();
}
