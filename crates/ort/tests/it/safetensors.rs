//! Models from folders of safetensors equal those from GGUF files, and agree with `transformers`.

use std::fs;
use std::sync::{Arc, LazyLock};

use upcycle_checkpoint::gguf::GgmlType;
use upcycle_core::Verifier;
use upcycle_onnx::export::WeightType;
use upcycle_onnx::layout::{DATA_FILE, MODEL_FILE};
use upcycle_ort::{Memory, Model, OrtVerifier};
use upcycle_testkit::tiny::{self, Scaling, difference, transformers};
use upcycle_testkit::{Subject, Tolerance};

use crate::support::{Export, Folder, Tiny, load, verifier};

fn tiny(architecture: &'static str) -> Tiny {
    Tiny { architecture, ..Tiny::default() }
}

/// Heads whose total width exceeds the model's width.
fn wide(tiny: &Tiny) -> Tiny {
    Tiny { head: Some(32), ..tiny.clone() }
}

/// The logits of every row of a text.
fn logits(model: &Arc<Model>, text: &[u32]) -> Vec<Vec<f32>> {
    tiny::logits(&mut OrtVerifier::new(Arc::clone(model)), text).expect("a sound model")
}

fn read(folder: &Folder, name: &str) -> Vec<u8> {
    fs::read(folder.path.join(name)).expect("written")
}

/// Qwen's tensors are the same in both formats, so the graphs are equal byte for byte. Llama's queries and keys are permuted, which
/// changes only the order of sums. With activations of eight bits, that can change one.
#[test]
fn both_formats_give_the_same_graph_or_the_same_logits() {
    for weights in WeightType::ALL {
        for tiny in
            [tiny("llama"), tiny("qwen2"), wide(&tiny("qwen3")), Tiny { untied: true, ..tiny("llama") }]
        {
            let [one, other] = [tiny.export(weights), tiny.export_folder(GgmlType::F32, false, weights)];
            if tiny.architecture != "llama" {
                for name in [MODEL_FILE, DATA_FILE] {
                    assert!(read(&one, name) == read(&other, name), "{tiny:?}, {weights:?}: {name}");
                }
                continue;
            }
            let tolerance = if matches!(weights, WeightType::F32 | WeightType::F16) { 1e-4 } else { 0.5 };
            let [one, other] = [one, other].map(|folder| logits(&load(&folder.path), &transformers::text()));
            let worst = one.iter().zip(&other).map(|(a, b)| difference(a, b)).fold(0.0, f32::max);
            println!("{weights:?}: within {worst:.1e}");
            assert!(worst < tolerance, "{tiny:?}, {weights:?}: {worst}");
        }
    }
}

#[test]
fn shards_are_one_model() {
    for stored in [GgmlType::F32, GgmlType::F16, GgmlType::Bf16] {
        let [one, two] =
            [false, true].map(|shards| tiny("llama").export_folder(stored, shards, WeightType::Int8));
        for name in [MODEL_FILE, DATA_FILE] {
            assert!(read(&one, name) == read(&two, name), "{stored:?}: {name}");
        }
    }
}

/// `F16` weights of a folder are neither widened nor rounded again.
#[test]
fn half_precision_weights_are_copied() {
    let tiny = tiny("qwen2");
    let [kept, widened] =
        [WeightType::F16, WeightType::F32].map(|weights| tiny.export_folder(GgmlType::F16, false, weights));
    let [kept, widened] = [kept, widened].map(|folder| logits(&load(&folder.path), &transformers::text()));
    let worst = kept.iter().zip(&widened).map(|(a, b)| difference(a, b)).fold(0.0, f32::max);
    assert!(worst < 1e-5, "{worst}");
    let exact =
        logits(&load(&tiny.export_folder(GgmlType::F32, false, WeightType::F32).path), &transformers::text());
    assert!(difference(&exact[39], &widened[39]) > 1e-5, "rounding shows");
}

#[test]
fn logits_are_those_of_transformers() {
    for (name, tiny) in transformers::cases() {
        for folder in
            [tiny.export_folder(GgmlType::F32, false, WeightType::F32), tiny.export(WeightType::F32)]
        {
            let worst =
                transformers::largest_difference(name, &logits(&load(&folder.path), &transformers::text()));
            println!("{name}: within {worst:.1e}");
            assert!(worst < 5e-5, "{name}: off by {worst}");
        }
    }
}

/// A model, and the same model with a row of weights that overflows.
type Shared = LazyLock<[(Folder, Arc<Model>); 2]>;

fn shared(tiny: &Tiny) -> [(Folder, Arc<Model>); 2] {
    let poisoned = Tiny { poisoned: Some("blk.0.ffn_up.weight"), ..tiny.clone() };
    [tiny, &poisoned].map(|tiny| {
        let folder = tiny.export_folder(GgmlType::F32, true, WeightType::F32);
        let model = load(&folder.path);
        (folder, model)
    })
}

fn within(models: &'static Shared, memory: Memory) -> Subject {
    let stated = verifier(&models[0].1, memory).row_tolerance();
    Subject::new(move || verifier(&models[0].1, memory))
        .not_finite(move || verifier(&models[1].1, memory))
        .tolerance(Tolerance::Within(stated))
}

/// A window shorter than the laws' prefix, from the second layer on; and a window of all layers.
static WINDOW: Shared = LazyLock::new(|| shared(&Tiny { window: Some((6, 1)), ..tiny("qwen2") }));
static MISTRAL: Shared = LazyLock::new(|| shared(&Tiny { window: Some((5, 0)), ..tiny("mistral") }));
static LLAMA3: Shared = LazyLock::new(|| shared(&Tiny { scaling: Scaling::Llama3, ..tiny("llama") }));

upcycle_testkit::conformance! {
    mod window;
    subject: || within(&WINDOW, Memory::Host),
    exempt: [],
}
upcycle_testkit::conformance! {
    mod window_on_device;
    subject: || within(&WINDOW, Memory::Device),
    exempt: [],
}
upcycle_testkit::conformance! {
    mod mistral;
    subject: || within(&MISTRAL, Memory::Host),
    exempt: [],
}
upcycle_testkit::conformance! {
    mod llama3;
    subject: || within(&LLAMA3, Memory::Host),
    exempt: [],
}
