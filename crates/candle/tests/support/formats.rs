//! Tiny models of every architecture in both formats, from the same numbers.

use std::path::Path;
use std::sync::Arc;

use safetensors::Dtype;
use serde_json::Value;
use upcycle_candle::{CandleVerifier, LoadError, Model, Options, Products, Weights};
use upcycle_checkpoint::gguf::GgmlType;
use upcycle_checkpoint::gguf::write::GgufWriter;
use upcycle_core::Verifier;
use upcycle_testkit::tiny::{Stored, write_safetensors};
use upcycle_testkit::{Subject, Tolerance};

use super::{Tiny, chain, options, tensors_device};

/// How a model is stored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Format {
    Gguf,
    /// A `config.json` and one file of safetensors.
    Folder,
    /// The same with an index and two files.
    Shards,
}

/// The laws hold exactly, whatever the type. What overflows sits where quantization of the activations could hide it.
pub(crate) fn exact(tiny: &Tiny, format: Format, products: Products, weights: Weights) -> Subject {
    let options = options(products, weights);
    let model = load(tiny, format, &options);
    let poisoned = Tiny { poisoned: Some("blk.0.ffn_up.weight"), ..tiny.clone() };
    let poisoned = load(&poisoned, format, &options);
    Subject::new(move || CandleVerifier::new(model.clone()))
        .not_finite(move || CandleVerifier::new(poisoned.clone()))
}

/// A model on candle's tensors, held to the laws within what the verifier states, or closer: the logits of tiny models are small.
pub(crate) fn on_tensors(tiny: &Tiny, format: Format) -> Subject {
    let model = load_tensors(tiny, format, Weights::File);
    let poisoned = Tiny { poisoned: Some("blk.0.ffn_up.weight"), ..tiny.clone() };
    let poisoned = load_tensors(&poisoned, format, Weights::File);
    // An H200 moved them by 0.32 where it goes from products of few rows to those of many.
    let close = if tensors_device().is_cpu() { 0.3 } else { 0.5 };
    let stated = CandleVerifier::new(model.clone()).row_tolerance().min(close);
    Subject::new(move || CandleVerifier::new(model.clone()))
        .not_finite(move || CandleVerifier::new(poisoned.clone()))
        .tolerance(Tolerance::Within(stated))
}

/// Writes and loads a model.
pub(crate) fn load(tiny: &Tiny, format: Format, options: &Options) -> Arc<Model> {
    written(tiny, format, |path| Model::load(path, options))
}

/// Writes a model and loads it onto [a device](tensors_device) of candle's.
pub(crate) fn load_tensors(tiny: &Tiny, format: Format, weights: Weights) -> Arc<Model> {
    let mut options = Options::default();
    options.weights = weights;
    written(tiny, format, |path| Model::load_on(path, &options, tensors_device(), &mut |_, _| ()))
}

fn written(
    tiny: &Tiny,
    format: Format,
    load: impl FnOnce(&Path) -> Result<Arc<Model>, LoadError>,
) -> Arc<Model> {
    // The maps outlive the names.
    let loaded = if format == Format::Gguf {
        load(tiny.write().path())
    } else {
        let folder = tempfile::tempdir().expect("a temporary folder");
        write(tiny, folder.path(), format == Format::Shards);
        load(folder.path())
    };
    loaded.unwrap_or_else(|error| panic!("{tiny:?}: {}", chain(&error)))
}

/// What a GGUF file says of rotation and windows.
pub(crate) fn rope_and_window(tiny: &Tiny, writer: GgufWriter) -> GgufWriter {
    tiny.plain().rope_and_window(writer)
}

/// The `config.json`.
pub(crate) fn config(tiny: &Tiny) -> Value {
    tiny.plain().config()
}

/// Writes the model as a folder, in one file or in two with an index.
pub(crate) fn write(tiny: &Tiny, folder: &Path, shards: bool) {
    std::fs::write(folder.join("config.json"), config(tiny).to_string()).expect("to write");
    let stored = |(name, dtype, shape): (String, GgmlType, Vec<usize>)| {
        let (dtype, bytes) = tiny.bytes(&name, dtype, &shape);
        let dtype = match dtype {
            GgmlType::F32 => Dtype::F32,
            GgmlType::F16 => Dtype::F16,
            GgmlType::Bf16 => Dtype::BF16,
            other => panic!("safetensors have no {other}"),
        };
        Stored { name, dtype, shape, bytes }
    };
    let tensors = tiny.tensors().into_iter().map(stored).collect();
    write_safetensors(&tiny.plain(), tensors, folder, shards);
}
