//! The laws on tiny models with random weights, of every type that candle has.

mod support;

use support::Tiny;
use support::formats::{Format, exact};
use upcycle_candle::{Products, Weights};
use upcycle_checkpoint::gguf::GgmlType;

macro_rules! laws {
    ($products:ident: $($name:ident: $attention:ident, $feed_forward:ident;)*) => {$(
        upcycle_testkit::conformance! {
            mod $name;
            subject: || {
                let tiny = Tiny::new([GgmlType::$attention, GgmlType::$feed_forward]);
                exact(&tiny, Format::Gguf, Products::$products, Weights::File)
            },
            exempt: [],
        }
    )*};
}

laws! {
    Own:
    own_f32: F32, F32;
    own_f16_bf16: F16, Bf16;
    own_q4_0_q4_1: Q4_0, Q4_1;
    own_q5_0_q5_1: Q5_0, Q5_1;
    own_q8_0: Q8_0, Q8_0;
    own_q4_k_q6_k: Q4K, Q6K;
}

laws! {
    Candle:
    f32: F32, F32;
    f16_bf16: F16, Bf16;
    q4_0: Q4_0, Q4_0;
    q4_1_q8_0: Q4_1, Q8_0;
    q5_0_q5_1: Q5_0, Q5_1;
    q8_0_q8_1: Q8_0, Q8_1;
    q2_k_q3_k: Q2K, Q3K;
    q4_k_q6_k: Q4K, Q6K;
    q6_k_q5_k: Q6K, Q5K;
    q8_k_q6_k: Q8K, Q6K;
}

/// An output matrix of its own, more query heads to a KV head, a head width that is no power of two.
fn odd_sizes() -> Tiny {
    let mut tiny = Tiny::new([GgmlType::F32, GgmlType::F32]);
    (tiny.width, tiny.heads, tiny.kv_heads, tiny.feed_forward) = (6 * 10, 6, 2, 90);
    (tiny.vocab, tiny.untied) = (77, true);
    tiny
}

upcycle_testkit::conformance! {
    mod widened;
    subject: || exact(&Tiny::new([GgmlType::Q4K, GgmlType::Q4_1]), Format::Gguf, Products::Candle, Weights::F32),
    exempt: [],
}

upcycle_testkit::conformance! {
    mod odd;
    subject: || exact(&odd_sizes(), Format::Gguf, Products::Candle, Weights::F32),
    exempt: [],
}
