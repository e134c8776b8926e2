//! Adapters.

use std::sync::Arc;

use tempfile::NamedTempFile;
use upcycle_checkpoint::gguf::GgmlType;
use upcycle_checkpoint::gguf::write::GgufWriter;
use upcycle_llama_cpp::{LoadError, Lora, Model, Options};
use upcycle_testkit::tiny::{Tiny, random, write};

use crate::support::{apart, load, logits, options, refusal, verifier};

const TENSOR: &str = "blk.0.attn_q.weight";
const RANK: usize = 4;
const ALPHA: f32 = 8.0;

fn bytes(numbers: &[f32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

/// The two factors of an adapter for a square matrix.
fn factors(width: usize) -> [Vec<f32>; 2] {
    [random("lora_a", &[width, RANK]), random("lora_b", &[RANK, width])]
}

fn adapter(tiny: &Tiny) -> NamedTempFile {
    let [a, b] = factors(tiny.width);
    let (width, rank) = (tiny.width as u64, RANK as u64);
    let writer = GgufWriter::new()
        .metadata("general.type", "adapter")
        .metadata("general.architecture", tiny.architecture)
        .metadata("adapter.type", "lora")
        .metadata("adapter.lora.alpha", ALPHA)
        .tensor(format!("{TENSOR}.lora_a"), GgmlType::F32, &[width, rank], bytes(&a))
        .tensor(format!("{TENSOR}.lora_b"), GgmlType::F32, &[rank, width], bytes(&b));
    write(&writer)
}

/// The model with `scale` of the adapter added to its weights.
fn merged(tiny: &Tiny, scale: f32) -> NamedTempFile {
    let width = tiny.width;
    let [a, b] = factors(width);
    let mut weights = random(TENSOR, &[width, width]);
    for (out, row) in weights.chunks_exact_mut(width).enumerate() {
        for (input, weight) in row.iter_mut().enumerate() {
            let product: f32 = (0..RANK).map(|r| b[out * RANK + r] * a[r * width + input]).sum();
            *weight += scale * ALPHA / RANK as f32 * product;
        }
    }
    let shape = [width as u64, width as u64];
    write(&tiny.writer(Some(TENSOR)).tensor(TENSOR, GgmlType::F32, &shape, bytes(&weights)))
}

#[test]
fn an_adapter_equals_its_product_added_to_the_weights() {
    let tiny = Tiny::default();
    let (file, adapter) = (write(&tiny.writer(None)), adapter(&tiny));
    let text = [3, 14, 15, 92, 65, 35];
    let score = |model: &Arc<Model>| logits(&mut verifier(model), &text);
    let with = |scale| {
        let lora = Some(Lora { path: adapter.path().to_owned(), scale });
        score(&load(file.path(), &Options { lora, ..options(64) }))
    };
    let plain = score(&load(file.path(), &options(64)));
    for scale in [1.0, -0.5] {
        let merged = score(&load(merged(&tiny, scale).path(), &options(64)));
        assert!(apart(&with(scale), &merged) < 1e-2, "{}", apart(&with(scale), &merged));
        assert!(apart(&plain, &merged) > 0.3, "the adapter does something: {}", apart(&plain, &merged));
    }
    assert!(apart(&with(0.0), &plain) < 1e-3);
}

#[test]
fn adapters_that_do_not_fit_are_refused() {
    let tiny = Tiny::default();
    let file = write(&tiny.writer(None));
    let refused = |path: &std::path::Path, scale| {
        let lora = Some(Lora { path: path.to_owned(), scale });
        match refusal(file.path(), &Options { lora, ..options(64) }) {
            LoadError::Lora { reason, .. } => reason,
            other => panic!("{other:?}"),
        }
    };
    assert!(refused("no-such.gguf".as_ref(), 1.0).contains("no such file"));
    assert!(refused(file.path(), 1.0).contains("adapter"), "a model is no adapter");
    for other in
        [Tiny { architecture: "qwen2", ..tiny.clone() }, Tiny { width: 96, heads: 6, ..tiny.clone() }]
    {
        assert_ne!(refused(adapter(&other).path(), 1.0), "it gives no reason");
    }
    assert!(refused(adapter(&tiny).path(), f32::NAN).contains("scale"));
}
