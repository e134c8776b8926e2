//! The laws on rewritten graphs.

use std::sync::{Arc, LazyLock};

use tempfile::TempDir;
use upcycle_ort::{Memory, Model};
use upcycle_testkit::{Subject, Tolerance};

use super::{TREES, loaded, poisoned};
use crate::support::verifier;

type Pair = LazyLock<[(TempDir, Arc<Model>); 2]>;

fn within(name: &'static str, pair: &'static Pair, memory: Memory) -> Subject {
    let tolerance = TREES.iter().find(|(other, _)| *other == name).map_or(0.0, |&(_, tolerance)| tolerance);
    Subject::new(move || verifier(&pair[0].1, memory))
        .not_finite(move || verifier(&pair[1].1, memory))
        .tolerance(Tolerance::Within(tolerance))
}

macro_rules! laws {
    ($($module:ident, $name:literal, $memory:ident;)*) => {$(
        upcycle_testkit::conformance! {
            mod $module;
            subject: || {
                static PAIR: Pair = LazyLock::new(|| [loaded($name), poisoned($name)]);
                within($name, &PAIR, Memory::$memory)
            },
            exempt: [],
        }
    )*};
}

laws! {
    genai_llama_cuda_fp16, "genai-llama-cuda-fp16", Host;
    genai_llama_dml_fp16, "genai-llama-dml-fp16", Host;
    genai_llama_fp16, "genai-llama-fp16", Host;
    genai_llama_fp32, "genai-llama-fp32", Host;
    genai_llama_fp32_on_device, "genai-llama-fp32", Device;
    genai_llama_int4, "genai-llama-int4", Host;
    genai_qwen2_int8, "genai-qwen2-int8", Host;
    genai_qwen3_fp32, "genai-qwen3-fp32", Host;
    optimum_llama, "optimum-llama", Host;
    optimum_llama_on_device, "optimum-llama", Device;
    optimum_llama_eager, "optimum-llama-eager", Host;
    optimum_llama_fp16, "optimum-llama-fp16", Host;
    optimum_llama_opset14, "optimum-llama-opset14", Host;
    optimum_qwen2, "optimum-qwen2", Host;
    optimum_qwen3, "optimum-qwen3", Host;
    optimum_mistral_window, "optimum-mistral-window", Host;
}
