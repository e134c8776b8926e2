//! Numbers that are not finite, in weights or on the way: an error, however weights are held.

use std::sync::Arc;

use upcycle_core::{DraftTree, RowSelection, TopK, TreeInput, Verifier, VerifyError};
use upcycle_onnx::export::Weights;
use upcycle_ort::{LoadError, Memory, Model};

use crate::support::{Export, Tiny, load, options, overwrite, verifier};

fn tiny() -> Tiny {
    Tiny { untied: true, ..Tiny::default() }
}

#[test]
fn a_vector_of_weights_that_is_not_finite_is_refused_by_its_name() {
    for weights in Weights::ALL {
        for name in ["output_norm.weight", "blk.1.ffn_norm.weight"] {
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let folder = tiny().export(weights);
                overwrite(&folder, name, 4 * 63, &bad.to_le_bytes());
                let found = Model::load(&folder.path, &options()).map(drop);
                assert!(
                    matches!(&found, Err(LoadError::NotFinite { tensor }) if tensor == name),
                    "{weights:?}, {name}, {bad}: {found:?}"
                );
            }
        }
    }
}

/// Scores a text with token 2 in its middle.
fn score(model: &Arc<Model>, memory: Memory, text: &[u32]) -> Result<(), VerifyError> {
    let mut verifier = verifier(model, memory);
    let seq = verifier.open()?;
    let tree = DraftTree::chain(text);
    verifier.forward(&[TreeInput { seq, tree: &tree, rows: RowSelection::All }], &mut TopK::new(3))
}

/// A matrix is too large to be looked at: what it does to a row is found when the row is scored, and other rows are not
/// touched by it.
#[test]
fn a_row_that_is_not_finite_is_an_error_of_the_pass() {
    for weights in Weights::ALL {
        let folder = tiny().export(weights);
        let (name, bad) = match weights {
            Weights::F16 => ("embedding.weight.half", 0x7e00_u16.to_le_bytes().to_vec()),
            _ => ("embedding.weight", f32::NAN.to_le_bytes().to_vec()),
        };
        overwrite(&folder, name, 2 * 64 * bad.len(), &bad);
        let model = load(&folder.path);
        for memory in [Memory::Host, Memory::Device] {
            score(&model, memory, &[5, 6, 7]).expect("rows without the token");
            let found = score(&model, memory, &[5, 2, 7]);
            assert!(
                matches!(&found, Err(VerifyError::NotFinite { .. })),
                "{weights:?}, {memory:?}: {found:?}"
            );
        }
    }
}

/// Finite weights whose products are not.
#[test]
fn products_that_overflow_are_an_error_of_the_pass() {
    for weights in [Weights::F32, Weights::Int8, Weights::Int4] {
        let folder = Tiny { poisoned: Some("blk.0.ffn_up.weight"), ..tiny() }.export(weights);
        let found = score(&load(&folder.path), Memory::Host, &[5, 6, 7]);
        assert!(matches!(&found, Err(VerifyError::NotFinite { .. })), "{weights:?}: {found:?}");
    }
}
