//! The laws on tiny models with random weights.

use std::sync::{Arc, LazyLock};

use half::f16;
use upcycle_core::Verifier;
use upcycle_onnx::export::WeightType;
use upcycle_ort::{Memory, Model};
use upcycle_testkit::{Subject, Tolerance};

use crate::support::{Export, Folder, Tiny, load, overwrite, verifier};

/// A model, and the same model with a row of weights that overflows.
struct Models {
    _folders: [Folder; 2],
    sound: Arc<Model>,
    poisoned: Arc<Model>,
}

type Shared = LazyLock<Models>;

fn pair(tiny: &Tiny, weights: WeightType) -> Models {
    let poisoned = Tiny { poisoned: Some("blk.0.ffn_up.weight"), ..tiny.clone() };
    let folders = match weights {
        // The type cannot hold the value, and the exporter refuses to write an infinity.
        WeightType::F16 => [(); 2].map(|()| tiny.export(weights)),
        _ => [tiny, &poisoned].map(|tiny| tiny.export(weights)),
    };
    if weights == WeightType::F16 {
        overwrite(&folders[1], "layer.0.gate_up.weight.half", 0, &f16::INFINITY.to_le_bytes());
    }
    let [sound, poisoned] = folders.each_ref().map(|folder| load(&folder.path));
    Models { _folders: folders, sound, poisoned }
}

/// At the backend's stated tolerance. These models differ by far less, and a planted fault changes their logits by more.
fn within(models: &'static Shared, memory: Memory) -> Subject {
    let stated = verifier(&models.sound, memory).row_tolerance();
    Subject::new(move || verifier(&models.sound, memory))
        .not_finite(move || verifier(&models.poisoned, memory))
        .tolerance(Tolerance::Within(stated))
}

macro_rules! laws {
    ($($name:ident, $models:ident: $tiny:expr, $weights:ident;)*) => {$(
        static $models: Shared = LazyLock::new(|| pair(&$tiny, WeightType::$weights));
        upcycle_testkit::conformance! {
            mod $name;
            subject: || within(&$models, Memory::Host),
            exempt: [],
        }
    )*};
}

/// The same models in the provider's memory.
macro_rules! laws_on_device {
    ($($name:ident: $models:ident;)*) => {$(
        upcycle_testkit::conformance! {
            mod $name;
            subject: || within(&$models, Memory::Device),
            exempt: [],
        }
    )*};
}

/// A separate output matrix, several query heads per KV head, and a part of the head that is not rotated.
fn odd() -> Tiny {
    Tiny { width: 96, heads: 6, kv_heads: 2, vocab: 77, rotated: Some(8), untied: true, ..Tiny::default() }
}

laws! {
    llama_f32, LLAMA_F32: Tiny::default(), F32;
    llama_f16, LLAMA_F16: Tiny::default(), F16;
    odd_f32, ODD_F32: odd(), F32;
    qwen2_f32, QWEN2_F32: Tiny { architecture: "qwen2", ..Tiny::default() }, F32;
    qwen3_f32, QWEN3_F32: Tiny { architecture: "qwen3", ..odd() }, F32;
}

laws_on_device! {
    llama_f32_on_device: LLAMA_F32;
    odd_f32_on_device: ODD_F32;
    qwen3_f32_on_device: QWEN3_F32;
}
