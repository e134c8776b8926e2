//! Values that are not finite, in weights or activations, are an error for every type of weights.

use std::sync::Arc;

use upcycle_core::{DraftTree, RowSelection, TopK, TreeInput, Verifier, VerifyError};
use upcycle_onnx::export::WeightType;
use upcycle_ort::{LoadError, Memory, Model};

use crate::support::{Export, Tiny, load, options, overwrite, verifier};

fn tiny() -> Tiny {
    Tiny { untied: true, ..Tiny::default() }
}

#[test]
fn a_vector_of_weights_that_is_not_finite_is_refused_with_its_name() {
    for weights in WeightType::ALL {
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

/// Scores a text that contains token 2.
fn score(model: &Arc<Model>, memory: Memory, text: &[u32]) -> Result<(), VerifyError> {
    let mut verifier = verifier(model, memory);
    let seq = verifier.open()?;
    let tree = DraftTree::chain(text);
    verifier.forward(&[TreeInput { seq, tree: &tree, rows: RowSelection::All }], &mut TopK::new(3))
}

/// Matrices are too large to be checked. Scoring a row reports its fault, and other rows are not affected.
#[test]
fn a_row_that_is_not_finite_is_an_error_of_the_pass() {
    for weights in WeightType::ALL {
        let folder = tiny().export(weights);
        let (name, bad) = match weights {
            WeightType::F16 => ("embedding.weight.half", 0x7e00_u16.to_le_bytes().to_vec()),
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

/// The weights are finite, but their products overflow.
#[test]
fn products_that_overflow_are_an_error_of_the_pass() {
    for weights in [WeightType::F32, WeightType::Int8, WeightType::Int4] {
        let folder = Tiny { poisoned: Some("blk.0.ffn_up.weight"), ..tiny() }.export(weights);
        let found = score(&load(&folder.path), Memory::Host, &[5, 6, 7]);
        assert!(matches!(&found, Err(VerifyError::NotFinite { .. })), "{weights:?}: {found:?}");
    }
}
