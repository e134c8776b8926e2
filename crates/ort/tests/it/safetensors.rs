//! Models from folders of safetensors: the same as from GGUF files, and as `transformers` computes them.

use std::fs;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use safetensors::Dtype;
use serde_json::Value;
use upcycle_core::{DraftTree, Row, RowSelection, TopK, TreeInput, Verifier};
use upcycle_onnx::export::Weights;
use upcycle_onnx::layout::{DATA_FILE, MODEL_FILE};
use upcycle_ort::{Memory, Model, OrtVerifier};
use upcycle_testkit::tiny::Scaling;
use upcycle_testkit::{Subject, Tolerance};

use crate::support::{Export, Folder, Tiny, load, verifier};

fn tiny(architecture: &'static str) -> Tiny {
    Tiny { architecture, ..Tiny::default() }
}

/// Heads that are wider than the width by their number.
fn wide(tiny: &Tiny) -> Tiny {
    Tiny { head: Some(32), rotated: 32, ..tiny.clone() }
}

/// The logits of every row of a text.
fn logits(model: &Arc<Model>, text: &[u32]) -> Vec<Vec<f32>> {
    let mut verifier = OrtVerifier::new(Arc::clone(model));
    let seq = verifier.open().expect("room for one");
    let tree = DraftTree::chain(text);
    let step = TreeInput { seq, tree: &tree, rows: RowSelection::All };
    verifier.forward(&[step], &mut TopK::new(1)).expect("a sound model");
    (0..text.len()).map(|node| verifier.logits(Row { input: 0, node }).expect("asked for").to_vec()).collect()
}

fn difference(one: &[f32], other: &[f32]) -> f32 {
    assert_eq!(one.len(), other.len());
    one.iter().zip(other).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

fn text() -> Vec<u32> {
    (0..40).map(|i| i * 37 % 91).collect()
}

fn read(folder: &Folder, name: &str) -> Vec<u8> {
    fs::read(folder.path.join(name)).expect("written")
}

/// Qwen's tensors are the same in both formats, so that the graphs are, to the byte. llama's queries and keys are permuted,
/// which changes the order of sums alone; where activations are rounded to eight bits that can flip one.
#[test]
fn both_formats_give_the_same_graph_or_the_same_logits() {
    for weights in Weights::ALL {
        for tiny in
            [tiny("llama"), tiny("qwen2"), wide(&tiny("qwen3")), Tiny { untied: true, ..tiny("llama") }]
        {
            let [one, other] = [tiny.export(weights), tiny.export_folder(Dtype::F32, false, weights)];
            if tiny.architecture != "llama" {
                for name in [MODEL_FILE, DATA_FILE] {
                    assert!(read(&one, name) == read(&other, name), "{tiny:?}, {weights:?}: {name}");
                }
                continue;
            }
            let tolerance = if matches!(weights, Weights::F32 | Weights::F16) { 1e-4 } else { 0.5 };
            let [one, other] = [one, other].map(|folder| logits(&load(&folder.path), &text()));
            let worst = one.iter().zip(&other).map(|(a, b)| difference(a, b)).fold(0.0, f32::max);
            println!("{weights:?}: within {worst:.1e}");
            assert!(worst < tolerance, "{tiny:?}, {weights:?}: {worst}");
        }
    }
}

#[test]
fn shards_are_one_model() {
    for stored in [Dtype::F32, Dtype::F16, Dtype::BF16] {
        let [one, two] =
            [false, true].map(|shards| tiny("llama").export_folder(stored, shards, Weights::Int8));
        for name in [MODEL_FILE, DATA_FILE] {
            assert!(read(&one, name) == read(&two, name), "{stored:?}: {name}");
        }
    }
}

/// Half precision is half precision: weights that a folder has in `F16` are neither widened nor rounded again.
#[test]
fn what_a_folder_has_in_half_precision_is_taken_over() {
    let tiny = tiny("qwen2");
    let [kept, widened] =
        [Weights::F16, Weights::F32].map(|weights| tiny.export_folder(Dtype::F16, false, weights));
    let [kept, widened] = [kept, widened].map(|folder| logits(&load(&folder.path), &text()));
    let worst = kept.iter().zip(&widened).map(|(a, b)| difference(a, b)).fold(0.0, f32::max);
    assert!(worst < 1e-5, "{worst}");
    let exact = logits(&load(&tiny.export_folder(Dtype::F32, false, Weights::F32).path), &text());
    assert!(difference(&exact[39], &widened[39]) > 1e-5, "rounding shows");
}

/// The models of `crates/candle/tests/transformers`, with every scaling and with windows.
#[test]
fn logits_are_those_of_transformers() {
    let windows = |architecture, first| Tiny { window: Some((6, first)), ..tiny(architecture) };
    let cases = [
        ("llama", tiny("llama")),
        ("llama-linear", Tiny { scaling: Scaling::Linear, untied: true, ..tiny("llama") }),
        ("llama-llama3", Tiny { scaling: Scaling::Llama3, ..tiny("llama") }),
        ("llama-yarn", wide(&Tiny { scaling: Scaling::Yarn, ..tiny("llama") })),
        ("mistral-window", windows("mistral", 0)),
        ("qwen2", tiny("qwen2")),
        ("qwen2-yarn", Tiny { scaling: Scaling::Yarn, untied: true, ..tiny("qwen2") }),
        ("qwen2-window", windows("qwen2", 1)),
        ("qwen3", wide(&tiny("qwen3"))),
        ("qwen3-untied", wide(&Tiny { untied: true, kv_heads: 4, ..tiny("qwen3") })),
    ];
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../candle/tests/transformers/logits.json");
    let json: Value =
        serde_json::from_str(&fs::read_to_string(file).expect("in the repository")).expect("sound");
    assert_eq!(json["models"].as_object().map(serde_json::Map::len), Some(cases.len()));
    let text: Vec<u32> = serde_json::from_value(json["text"].clone()).expect("tokens");
    for (name, tiny) in cases {
        for folder in [tiny.export_folder(Dtype::F32, false, Weights::F32), tiny.export(Weights::F32)] {
            let found = logits(&load(&folder.path), &text);
            let mut worst = 0.0_f32;
            for (row, expected) in json["models"][name].as_object().expect("rows by number") {
                let expected: Vec<f32> = serde_json::from_value(expected.clone()).expect("numbers");
                worst = worst.max(difference(&found[row.parse::<usize>().expect("a row")], &expected));
            }
            println!("{name}: within {worst:.1e}");
            assert!(worst < 5e-5, "{name}: off by {worst}");
        }
    }
}

/// A model, and the same with a row of weights that overflows.
type Shared = LazyLock<[(Folder, Arc<Model>); 2]>;

fn shared(tiny: &Tiny) -> [(Folder, Arc<Model>); 2] {
    let poisoned = Tiny { poisoned: Some("blk.0.ffn_up.weight"), ..tiny.clone() };
    [tiny, &poisoned].map(|tiny| {
        let folder = tiny.export_folder(Dtype::F32, true, Weights::F32);
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

/// A window that is shorter than the laws' prefix, from the second layer on; and one of all layers.
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
