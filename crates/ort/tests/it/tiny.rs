//! The laws on tiny models with random weights.

use std::sync::LazyLock;

use upcycle_export::Weights;
use upcycle_ort::OrtVerifier;
use upcycle_testkit::{Subject, Tolerance};

use crate::support::{Export, Folder, Tiny, load};

type Exported = LazyLock<[Folder; 2]>;

/// A model, and the same with a row of weights that overflows.
fn pair(tiny: &Tiny, weights: Weights) -> [Folder; 2] {
    let poisoned = Tiny { poisoned: Some("blk.0.ffn_up.weight"), ..tiny.clone() };
    [tiny.export(weights), poisoned.export(weights)]
}

/// At the tolerance that the backend states, which is far above what these models show: a planted fault moves their logits
/// by more still.
fn within(exported: &'static Exported) -> Subject {
    let [sound, poisoned] = [0, 1].map(|index| load(&exported[index].path));
    let stated = upcycle_core::Verifier::row_tolerance(&OrtVerifier::new(sound.clone()));
    Subject::new(move || OrtVerifier::new(sound.clone()))
        .not_finite(move || OrtVerifier::new(poisoned.clone()))
        .tolerance(Tolerance::Within(stated))
}

macro_rules! laws {
    ($($name:ident, $exported:ident: $tiny:expr, $weights:ident;)*) => {$(
        static $exported: Exported = LazyLock::new(|| pair(&$tiny, Weights::$weights));
        upcycle_testkit::conformance! {
            mod $name;
            subject: || within(&$exported),
            exempt: [],
        }
    )*};
}

/// An output matrix of its own, more query heads to a KV head, a part of the head that does not turn.
fn odd() -> Tiny {
    Tiny { width: 96, heads: 6, kv_heads: 2, vocab: 77, rotated: 8, untied: true, ..Tiny::default() }
}

laws! {
    llama_f32, LLAMA_F32: Tiny::default(), F32;
    llama_f16, LLAMA_F16: Tiny::default(), F16;
    odd_f32, ODD_F32: odd(), F32;
    qwen2_f32, QWEN2_F32: Tiny { architecture: "qwen2", ..Tiny::default() }, F32;
    qwen3_f32, QWEN3_F32: Tiny { architecture: "qwen3", ..odd() }, F32;
}
