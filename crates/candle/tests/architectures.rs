//! Every architecture and weight type: the laws, and logits against those of `transformers`.

mod support;

use support::quantize::quantized;
use support::{load, subject};
use upcycle_candle::{CandleVerifier, WeightStorage};
use upcycle_checkpoint::gguf::GgmlType;
use upcycle_testkit::tiny::{Format, Scaling, Tiny, difference, logits, transformers};

#[test]
fn logits_are_those_of_transformers() {
    for (name, tiny) in transformers::cases() {
        for format in [Format::Gguf, Format::Folder, Format::Shards] {
            let mut verifier = CandleVerifier::new(load(&tiny, format, WeightStorage::File));
            let found = logits(&mut verifier, &transformers::text()).expect("a sound model");
            let worst = transformers::largest_difference(name, &found);
            println!("{name}, {format:?}: within {worst:.1e}");
            assert!(worst < 5e-5, "{name}, {format:?}: off by {worst}");
        }
    }
}

fn tiny(architecture: &'static str) -> Tiny {
    Tiny { architecture, ..Tiny::default() }
}

fn qwen3() -> Tiny {
    Tiny { head: Some(32), ..tiny("qwen3") }
}

/// Quantized matrices beside biases and normalized heads.
fn mixed(tiny: &Tiny) -> Tiny {
    let Tiny { attention, ffn, embedding, quantize, .. } = quantized(GgmlType::Q8_0, GgmlType::Q4_1);
    Tiny { attention, ffn, embedding, quantize, ..tiny.clone() }
}

/// A separate output matrix, three query heads to a KV head, a head width that is no power of two.
fn odd_sizes() -> Tiny {
    Tiny {
        width: 6 * 10,
        heads: 6,
        kv_heads: 2,
        feed_forward: Some(90),
        vocab: 77,
        untied: true,
        ..Tiny::default()
    }
}

macro_rules! laws {
    ($($name:ident: $tiny:expr, $format:ident;)*) => {$(
        upcycle_testkit::conformance! {
            mod $name;
            subject: || subject(&$tiny, Format::$format),
            exempt: [],
        }
    )*};
}

laws! {
    llama_gguf: Tiny { scaling: Scaling::Llama3, ..tiny("llama") }, Gguf;
    llama_folder: Tiny { scaling: Scaling::Llama3, ..tiny("llama") }, Folder;
    window_gguf: Tiny { window: Some((6, 1)), ..tiny("qwen2") }, Gguf;
    window_folder: Tiny { window: Some((6, 1)), ..tiny("qwen2") }, Folder;
    qwen2_gguf: Tiny { scaling: Scaling::Yarn, untied: true, ..tiny("qwen2") }, Gguf;
    qwen2_folder: Tiny { scaling: Scaling::Yarn, untied: true, ..tiny("qwen2") }, Folder;
    qwen3_gguf: qwen3(), Gguf;
    qwen3_folder: qwen3(), Folder;
    quantized_qwen2: mixed(&tiny("qwen2")), Gguf;
    odd: odd_sizes(), Gguf;
    f16_bf16: quantized(GgmlType::F16, GgmlType::Bf16), Gguf;
    q4_k_q6_k: quantized(GgmlType::Q4K, GgmlType::Q6K), Gguf;
}

/// The laws take long with quantized weights, so the other types are compared with the same weights in `f32`. Rounding of activations
/// moves the logits of these models by some hundredths.
#[test]
fn every_type_gives_the_logits_of_its_weights_in_f32() {
    for (attention, ffn) in [
        (GgmlType::Q4_0, GgmlType::Q4_1),
        (GgmlType::Q5_0, GgmlType::Q5_1),
        (GgmlType::Q8_0, GgmlType::Q8_1),
        (GgmlType::Q2K, GgmlType::Q3K),
        (GgmlType::Q4K, GgmlType::Q5K),
        (GgmlType::Q6K, GgmlType::Q8K),
    ] {
        let tiny = quantized(attention, ffn);
        let [file, f32] = [WeightStorage::File, WeightStorage::F32].map(|weights| {
            let mut verifier = CandleVerifier::new(load(&tiny, Format::Gguf, weights));
            logits(&mut verifier, &[5, 40, 17, 88, 3]).expect("a sound model")
        });
        let worst = file.iter().zip(&f32).map(|(a, b)| difference(a, b)).fold(0.0, f32::max);
        println!("{attention}, {ffn}: within {worst:.1e}");
        assert!(worst < 0.3, "{attention}, {ffn}: off by {worst}");
    }
}
