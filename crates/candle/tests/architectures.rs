//! Every architecture, as GGUF and as safetensors: the laws, the two formats against each other, and both against
//! `transformers`, whose logits `tests/transformers/logits.py` has written down.

mod support;

use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use support::formats::{self, Format, exact, on_tensors};
use support::{Scaling, Tiny, options};
use upcycle_candle::{CandleVerifier, Model, Products, Weights};
use upcycle_checkpoint::gguf::GgmlType;
use upcycle_core::{DraftTree, Row, RowSelection, TokenId, TopK, TreeInput, Verifier};

fn tiny(family: &'static str) -> Tiny {
    Tiny { family, ..Tiny::new([GgmlType::F32, GgmlType::F32]) }
}

/// Heads that are wider than the width by their number.
fn qwen3() -> Tiny {
    Tiny { head: Some(32), ..tiny("qwen3") }
}

/// The models that `transformers` has run, by name.
fn cases() -> Vec<(&'static str, Tiny)> {
    let windows = |family, first| Tiny { window: Some((6, first)), ..tiny(family) };
    vec![
        ("llama", tiny("llama")),
        ("llama-linear", Tiny { scaling: Scaling::Linear, untied: true, ..tiny("llama") }),
        ("llama-llama3", Tiny { scaling: Scaling::Llama3, ..tiny("llama") }),
        ("llama-yarn", Tiny { scaling: Scaling::Yarn, head: Some(32), ..tiny("llama") }),
        ("mistral-window", windows("mistral", 0)),
        ("qwen2", tiny("qwen2")),
        ("qwen2-yarn", Tiny { scaling: Scaling::Yarn, untied: true, ..tiny("qwen2") }),
        ("qwen2-window", windows("qwen2", 1)),
        ("qwen3", qwen3()),
        ("qwen3-untied", Tiny { untied: true, kv_heads: 4, ..qwen3() }),
    ]
}

/// A text that is longer than windows and contexts before scaling.
fn text() -> Vec<TokenId> {
    (0..40).map(|i| i * 37 % 91).collect()
}

/// The logits of every row of the text.
fn logits(model: Arc<Model>) -> Vec<Vec<f32>> {
    let mut verifier = CandleVerifier::new(model);
    let tree = DraftTree::chain(&text());
    let seq = verifier.open().expect("room for one");
    let step = TreeInput { seq, tree: &tree, rows: RowSelection::All };
    verifier.forward(&[step], &mut TopK::new(1)).expect("a sound model");
    let row = |node| verifier.logits(Row { input: 0, node }).expect("asked for").to_vec();
    (0..tree.len()).map(row).collect()
}

fn difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// The largest difference of any logit of the rows that are written down.
fn worst(rows: &Value, found: &[Vec<f32>]) -> f32 {
    let each = rows.as_object().expect("rows by number").iter().map(|(row, expected)| {
        let expected: Vec<f32> = serde_json::from_value(expected.clone()).expect("numbers");
        difference(&found[row.parse::<usize>().expect("a row")], &expected)
    });
    each.fold(0.0, f32::max)
}

#[test]
fn logits_are_those_of_transformers() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transformers/logits.json");
    let json: Value =
        serde_json::from_str(&std::fs::read_to_string(file).expect("in the repository")).expect("sound");
    assert_eq!(json["text"], serde_json::json!(text()), "another text: run logits.py again");
    let cases = cases();
    assert_eq!(json["models"].as_object().map(serde_json::Map::len), Some(cases.len()));
    for (name, tiny) in cases {
        for (format, products) in [
            (Format::Gguf, Products::Own),
            (Format::Gguf, Products::Candle),
            (Format::Folder, Products::Own),
            (Format::Shards, Products::Candle),
        ] {
            let model = formats::load(&tiny, format, &options(products, Weights::File));
            assert_eq!(model.products(), products);
            let found = logits(model);
            let worst = worst(&json["models"][name], &found);
            println!("{name}, {format:?}, {products:?}: within {worst:.1e}");
            assert!(worst < 5e-5, "{name}, {format:?}, {products:?}: off by {worst}");
        }
        for format in [Format::Gguf, Format::Folder] {
            let found = logits(formats::load_tensors(&tiny, format, Weights::File));
            let worst = worst(&json["models"][name], &found);
            println!("{name}, {format:?}, tensors: within {worst:.1e}");
            assert!(worst < 5e-5, "{name}, {format:?}, tensors: off by {worst}");
        }
    }
}

/// The rows of each case differ from those of the plain model of its family by far more than the tolerance: what is left
/// out would be found.
#[test]
fn every_peculiarity_shows_in_the_logits() {
    let plain =
        |family| logits(formats::load(&tiny(family), Format::Gguf, &options(Products::Own, Weights::File)));
    for (family, tiny) in [
        ("llama", Tiny { scaling: Scaling::Linear, ..tiny("llama") }),
        ("llama", Tiny { scaling: Scaling::Llama3, ..tiny("llama") }),
        ("llama", Tiny { scaling: Scaling::Yarn, ..tiny("llama") }),
        ("llama", Tiny { window: Some((6, 0)), ..tiny("mistral") }),
        ("qwen2", Tiny { window: Some((6, 1)), ..tiny("qwen2") }),
        ("llama", tiny("qwen2")),
        ("llama", tiny("qwen3")),
    ] {
        let found = logits(formats::load(&tiny, Format::Gguf, &options(Products::Own, Weights::File)));
        let apart = difference(&found[39], &plain(family)[39]);
        assert!(apart > 2e-2, "{tiny:?}: {apart}");
    }
}

/// Qwen's heads stand the same in both formats, so that not a bit differs; llama's are permuted, which changes the order
/// of sums alone.
#[test]
fn both_formats_give_the_same_logits() {
    for (name, tiny) in cases() {
        for types in [[GgmlType::F32; 2], [GgmlType::F16, GgmlType::Bf16]] {
            let tiny = Tiny { types, embedding: types[1], ..tiny.clone() };
            for products in [Products::Own, Products::Candle] {
                let [gguf, folder, shards] = [Format::Gguf, Format::Folder, Format::Shards]
                    .map(|format| logits(formats::load(&tiny, format, &options(products, Weights::File))));
                assert_eq!(folder, shards, "{name}");
                if tiny.architecture() == "llama" {
                    let worst = gguf.iter().zip(&folder).map(|(a, b)| difference(a, b)).fold(0.0, f32::max);
                    assert!(worst < 1e-4, "{name}: {worst}");
                } else {
                    assert_eq!(gguf, folder, "{name}");
                }
            }
        }
    }
}

/// Writes the models for `tests/transformers/logits.py`, and says where.
#[test]
#[ignore = "run by hand before tests/transformers/logits.py"]
fn write_models_for_transformers() {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("models");
    for (name, tiny) in cases() {
        let folder = root.join(name);
        std::fs::create_dir_all(&folder).expect("to make a folder");
        formats::write(&tiny, &folder, false);
        tiny.writer()
            .write_to(&mut std::fs::File::create(folder.join("model.gguf")).expect("to write"))
            .expect("to write");
    }
    std::fs::write(root.join("text.json"), serde_json::json!(text()).to_string()).expect("to write");
    println!("{}", root.display());
}

macro_rules! laws {
    ($($name:ident: $tiny:expr;)*) => {$(
        mod $name {
            use super::*;

            upcycle_testkit::conformance! {
                mod gguf_own;
                subject: || exact(&$tiny, Format::Gguf, Products::Own, Weights::File),
                exempt: [],
            }
            upcycle_testkit::conformance! {
                mod gguf_candle;
                subject: || exact(&$tiny, Format::Gguf, Products::Candle, Weights::File),
                exempt: [],
            }
            upcycle_testkit::conformance! {
                mod safetensors_own;
                subject: || exact(&$tiny, Format::Shards, Products::Own, Weights::File),
                exempt: [],
            }
            upcycle_testkit::conformance! {
                mod safetensors_candle;
                subject: || exact(&$tiny, Format::Folder, Products::Candle, Weights::File),
                exempt: [],
            }
            upcycle_testkit::conformance! {
                mod gguf_tensors;
                subject: || on_tensors(&$tiny, Format::Gguf),
                exempt: [],
            }
            upcycle_testkit::conformance! {
                mod safetensors_tensors;
                subject: || on_tensors(&$tiny, Format::Folder),
                exempt: [],
            }
        }
    )*};
}

laws! {
    llama: Tiny { scaling: Scaling::Llama3, ..tiny("llama") };
    window: Tiny { window: Some((6, 1)), ..tiny("qwen2") };
    qwen2: Tiny { scaling: Scaling::Yarn, untied: true, ..tiny("qwen2") };
    qwen3: qwen3();
}

/// Quantized matrices beside biases and normalized heads.
mod quantized {
    use super::*;

    upcycle_testkit::conformance! {
        mod qwen2_own;
        subject: || exact(&of(&tiny("qwen2")), Format::Gguf, Products::Own, Weights::File),
        exempt: [],
    }
    upcycle_testkit::conformance! {
        mod qwen3_candle;
        subject: || exact(&of(&qwen3()), Format::Gguf, Products::Candle, Weights::File),
        exempt: [],
    }

    upcycle_testkit::conformance! {
        mod qwen2_tensors;
        subject: || on_tensors(&of(&tiny("qwen2")), Format::Gguf),
        exempt: [],
    }
    upcycle_testkit::conformance! {
        mod llama_tensors;
        subject: || on_tensors(&Tiny::new([GgmlType::Q4K, GgmlType::Q6K]), Format::Gguf),
        exempt: [],
    }

    fn of(tiny: &Tiny) -> Tiny {
        Tiny { types: [GgmlType::Q8_0, GgmlType::Q4_1], embedding: GgmlType::Q8_0, ..tiny.clone() }
    }
}
