//! Every architecture, from GGUF and from safetensors: the laws, the two formats beside each other, and logits against those of
//! `transformers`.

mod support;

use std::path::Path;

use support::quantize::quantized;
use support::{load, logits, subject};
use upcycle_checkpoint::gguf::GgmlType;
use upcycle_cpu::WeightStorage;
use upcycle_testkit::tiny::{Format, Scaling, Tiny, difference, transformers};

fn tiny(architecture: &'static str) -> Tiny {
    Tiny { architecture, ..Tiny::default() }
}

/// Heads that are wider than the width divided by their number.
fn qwen3() -> Tiny {
    Tiny { head: Some(32), ..tiny("qwen3") }
}

/// The logits of every row of the text that `transformers` has scored.
fn scored(tiny: &Tiny, format: Format) -> Vec<Vec<f32>> {
    logits(load(tiny, format, WeightStorage::File), &transformers::text())
}

#[test]
fn logits_are_those_of_transformers() {
    for (name, tiny) in transformers::cases() {
        for format in [Format::Gguf, Format::Folder, Format::Shards] {
            let worst = transformers::largest_difference(name, &scored(&tiny, format));
            println!("{name}, {format:?}: within {worst:.1e}");
            assert!(worst < 5e-5, "{name}, {format:?}: off by {worst}");
        }
    }
}

/// Each case differs from the plain model of its family by far more than the tolerance, so a missing feature would be found.
#[test]
fn every_peculiarity_shows_in_the_logits() {
    for (family, tiny) in [
        ("llama", Tiny { scaling: Scaling::Linear, ..tiny("llama") }),
        ("llama", Tiny { scaling: Scaling::Llama3, ..tiny("llama") }),
        ("llama", Tiny { scaling: Scaling::Yarn, ..tiny("llama") }),
        ("llama", Tiny { window: Some((6, 0)), ..tiny("mistral") }),
        ("qwen2", Tiny { window: Some((6, 1)), ..tiny("qwen2") }),
        ("llama", tiny("qwen2")),
        ("llama", tiny("qwen3")),
    ] {
        let plain = Tiny { architecture: family, ..Tiny::default() };
        let apart = difference(&scored(&tiny, Format::Gguf)[39], &scored(&plain, Format::Gguf)[39]);
        assert!(apart > 2e-2, "{tiny:?}: {apart}");
    }
}

/// Both formats store Qwen's heads alike, so every bit is equal. GGUF files permute llama's, which changes the order of sums.
#[test]
fn both_formats_give_the_same_logits() {
    for (name, tiny) in transformers::cases() {
        for types in [[GgmlType::F32; 2], [GgmlType::F16, GgmlType::Bf16]] {
            let tiny = Tiny { attention: types[0], ffn: types[1], embedding: types[1], ..tiny.clone() };
            let [gguf, folder, shards] =
                [Format::Gguf, Format::Folder, Format::Shards].map(|format| scored(&tiny, format));
            assert_eq!(folder, shards, "{name}");
            if tiny.named() == "llama" {
                let worst = gguf.iter().zip(&folder).map(|(a, b)| difference(a, b)).fold(0.0, f32::max);
                assert!(worst < 1e-4, "{name}: {worst}");
            } else {
                assert_eq!(gguf, folder, "{name}");
            }
        }
    }
}

/// Writes the models for `logits.py` of `upcycle-testkit`, and prints where.
#[test]
#[ignore = "run by hand before logits.py"]
fn write_models_for_transformers() {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("models");
    for (name, tiny) in transformers::cases() {
        let folder = root.join(name);
        std::fs::create_dir_all(&folder).expect("to make a folder");
        tiny.write_folder(&folder, false);
        let mut gguf = std::fs::File::create(folder.join("model.gguf")).expect("to write");
        tiny.writer(None).write_to(&mut gguf).expect("to write");
    }
    std::fs::write(root.join("text.json"), serde_json::json!(transformers::text()).to_string())
        .expect("to write");
    println!("{}", root.display());
}

macro_rules! laws {
    ($($name:ident: $tiny:expr, $format:ident;)*) => {$(
        upcycle_testkit::conformance! {
            mod $name;
            subject: || subject(&$tiny, Format::$format, WeightStorage::File),
            exempt: [],
        }
    )*};
}

laws! {
    llama_gguf: Tiny { scaling: Scaling::Llama3, ..tiny("llama") }, Gguf;
    llama_shards: Tiny { scaling: Scaling::Llama3, ..tiny("llama") }, Shards;
    window_gguf: Tiny { window: Some((6, 1)), ..tiny("qwen2") }, Gguf;
    window_shards: Tiny { window: Some((6, 1)), ..tiny("qwen2") }, Shards;
    qwen2_gguf: Tiny { scaling: Scaling::Yarn, untied: true, ..tiny("qwen2") }, Gguf;
    qwen2_shards: Tiny { scaling: Scaling::Yarn, untied: true, ..tiny("qwen2") }, Shards;
    qwen3_gguf: qwen3(), Gguf;
    qwen3_shards: qwen3(), Shards;
    quantized_qwen2: mixed(&tiny("qwen2")), Gguf;
    quantized_qwen3: mixed(&qwen3()), Gguf;
}

/// Quantized matrices beside biases and normalized heads.
fn mixed(tiny: &Tiny) -> Tiny {
    let Tiny { attention, ffn, embedding, quantize, .. } = quantized(GgmlType::Q8_0, GgmlType::Q4_1);
    Tiny { attention, ffn, embedding, quantize, ..tiny.clone() }
}
