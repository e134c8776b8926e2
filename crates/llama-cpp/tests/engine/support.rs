//! Loading of models.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use upcycle_core::{DraftTree, Row, RowSelection, TokenId, TopK, TreeInput, Verifier};
use upcycle_llama_cpp::{LlamaVerifier, LoadError, Model, Options};
pub(crate) use upcycle_testkit::real_model;

/// Two threads, and a small context.
pub(crate) fn options(n_ctx: u32) -> Options {
    Options {
        threads: 2.try_into().ok(),
        n_ctx: n_ctx.try_into().ok(),
        n_batch: 128.try_into().expect("not 0"),
        n_ubatch: std::num::NonZeroU32::new(128),
        ..Options::default()
    }
}

pub(crate) fn load(path: &Path, options: &Options) -> Arc<Model> {
    Model::load(path, options).unwrap_or_else(|error| panic!("{}", chain(&error)))
}

pub(crate) fn verifier(model: &Arc<Model>) -> LlamaVerifier {
    LlamaVerifier::new(Arc::clone(model)).unwrap_or_else(|error| panic!("{}", chain(&error)))
}

/// Why a model cannot be loaded or run.
pub(crate) fn refusal(path: &Path, options: &Options) -> LoadError {
    match Model::load(path, options).and_then(LlamaVerifier::new) {
        Ok(_) => panic!("{} was loaded", path.display()),
        Err(error) => {
            println!("{}", chain(&error));
            error
        }
    }
}

/// The error and its causes.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// The logits after each token of a text, `[tokens * vocab]`.
pub(crate) fn logits(verifier: &mut dyn Verifier, text: &[TokenId]) -> Vec<f32> {
    let seq = verifier.open().expect("room for one");
    let tree = DraftTree::chain(text);
    let input = TreeInput { seq, tree: &tree, rows: RowSelection::All };
    verifier.forward(&[input], &mut TopK::new(1)).expect("a sound model");
    let mut logits = Vec::new();
    for node in 0..text.len() {
        logits.extend_from_slice(verifier.logits(Row { input: 0, node }).expect("asked for"));
    }
    verifier.close(seq);
    logits
}

/// The largest difference of two rows.
pub(crate) fn apart(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}
