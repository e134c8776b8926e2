//! The laws on tiny models with random weights, of every weight type.

mod support;

use support::quantize::quantized;
use support::{options, subject, subject_with};
use upcycle_checkpoint::gguf::GgmlType;
use upcycle_cpu::{KvType, WeightStorage};
use upcycle_testkit::tiny::{Format, Tiny};

macro_rules! laws {
    ($($name:ident: $attention:ident, $feed_forward:ident, $weights:ident;)*) => {$(
        upcycle_testkit::conformance! {
            mod $name;
            subject: || {
                let tiny = quantized(GgmlType::$attention, GgmlType::$feed_forward);
                subject(&tiny, Format::Gguf, WeightStorage::$weights)
            },
            exempt: [],
        }
    )*};
}

laws! {
    f32: F32, F32, File;
    f16_bf16: F16, Bf16, File;
    q4_0_q4_1: Q4_0, Q4_1, File;
    q5_0_q5_1: Q5_0, Q5_1, File;
    q8_0: Q8_0, Q8_0, File;
    q4_k_q6_k: Q4K, Q6K, File;
    q2_k_q3_k: Q2K, Q3K, File;
    q5_k: Q5K, Q5K, File;
    widened: Q4K, Q4_1, F32;
}

upcycle_testkit::conformance! {
    mod half_kv;
    subject: || {
        let mut options = options(WeightStorage::File);
        options.kv_type = KvType::F16;
        subject_with(&quantized(GgmlType::Q4_0, GgmlType::Q4_1), Format::Gguf, &options)
    },
    exempt: [],
}

/// A separate output matrix, three query heads to a KV head, a vocabulary and a feed-forward network that fill no tile.
fn odd_sizes() -> Tiny {
    Tiny {
        width: 6 * 16,
        heads: 6,
        kv_heads: 2,
        feed_forward: Some(90),
        vocab: 77,
        untied: true,
        ..Tiny::default()
    }
}

upcycle_testkit::conformance! {
    mod odd;
    subject: || subject(&odd_sizes(), Format::Gguf, WeightStorage::File),
    exempt: [],
}
