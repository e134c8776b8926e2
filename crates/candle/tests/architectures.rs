//! Every architecture and weight type: the laws, and logits against those of `transformers`.

mod support;

use support::quantize::quantized;
use support::{load, subject};
use upcycle_candle::{CandleVerifier, Weights};
use upcycle_checkpoint::gguf::GgmlType;
use upcycle_testkit::tiny::{Format, Scaling, Tiny, logits, transformers};

#[test]
fn logits_are_those_of_transformers() {
    for (name, tiny) in transformers::cases() {
        for format in [Format::Gguf, Format::Folder, Format::Shards] {
            let mut verifier = CandleVerifier::new(load(&tiny, format, Weights::File));
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
    quantized_qwen3: mixed(&qwen3()), Gguf;
    odd: odd_sizes(), Gguf;
    f16_bf16: quantized(GgmlType::F16, GgmlType::Bf16), Gguf;
    q4_0: quantized(GgmlType::Q4_0, GgmlType::Q4_0), Gguf;
    q4_1_q8_0: quantized(GgmlType::Q4_1, GgmlType::Q8_0), Gguf;
    q5_0_q5_1: quantized(GgmlType::Q5_0, GgmlType::Q5_1), Gguf;
    q8_0_q8_1: quantized(GgmlType::Q8_0, GgmlType::Q8_1), Gguf;
    q2_k_q3_k: quantized(GgmlType::Q2K, GgmlType::Q3K), Gguf;
    q4_k_q6_k: quantized(GgmlType::Q4K, GgmlType::Q6K), Gguf;
    q6_k_q5_k: quantized(GgmlType::Q6K, GgmlType::Q5K), Gguf;
    q8_k_q6_k: quantized(GgmlType::Q8K, GgmlType::Q6K), Gguf;
}
