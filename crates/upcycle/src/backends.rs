//! The backends of this workspace, each behind the cargo feature of its name.

#[cfg(any(feature = "cpu", feature = "candle", feature = "llama-cpp"))]
mod graph_given;
#[cfg(feature = "llama-cpp")]
pub(crate) mod llama_cpp;

#[cfg(any(feature = "cpu", feature = "candle", feature = "ort"))]
use crate::parts::Progress;
#[cfg(any(feature = "cpu", feature = "candle", feature = "ort", feature = "llama-cpp"))]
use crate::registry::Devices;
#[cfg(any(feature = "cpu", feature = "candle", feature = "ort"))]
use crate::registry::ModelFit;
use crate::registry::Registry;
#[cfg(any(feature = "cpu", feature = "candle"))]
use upcycle_core::TreeKind;

#[cfg(any(feature = "cpu", feature = "candle"))]
use graph_given::refuse_graph;

const CPU: &str = "llama, qwen2 and qwen3 from GGUF or safetensors, on Upcycle's CPU kernels";
const CANDLE: &str = "the same models on candle's tensors";
const ORT: &str = "exported models on ONNX Runtime";
const LLAMA_CPP: &str = "GGUF files of any architecture in llama.cpp";

/// Registers the backends that are compiled in, and names the others.
pub(crate) fn register(registry: &mut Registry) {
    for (name, about) in [("cpu", CPU), ("candle", CANDLE), ("ort", ORT), ("llama-cpp", LLAMA_CPP)] {
        registry.register_uncompiled_backend(name, about, name);
    }
    #[cfg(feature = "cpu")]
    registry.add_backend(
        "cpu",
        CPU,
        Some("cpu"),
        known(&["cpu"]),
        |options: &upcycle_cpu::Options, model, progress| {
            refuse_graph(model)?;
            let model = upcycle_cpu::Model::load_with_progress(model.path, options, &mut |done, total| {
                progress(Progress { done, total });
            })?;
            Ok(Box::new(upcycle_cpu::CpuVerifier::new(model)))
        },
    );
    #[cfg(feature = "cpu")]
    registry.add_check("cpu", |options: &upcycle_cpu::Options, model| {
        refuse_graph(model)?;
        let fit = upcycle_cpu::Model::check(model.path, options)?;
        let kv_bytes = Some(fit.kv_bytes);
        Ok(ModelFit { kind: TreeKind::Tree, max_context: fit.max_context, kv_bytes })
    });
    #[cfg(feature = "candle")]
    registry.add_backend(
        "candle",
        CANDLE,
        Some("candle"),
        known(CANDLE_DEVICES),
        |options: &upcycle_candle::Options, model, progress| {
            refuse_graph(model)?;
            let model =
                upcycle_candle::Model::load_with_progress(model.path, options, &mut |done, total| {
                    progress(Progress { done, total });
                })?;
            Ok(Box::new(upcycle_candle::CandleVerifier::new(model)))
        },
    );
    #[cfg(feature = "candle")]
    registry.add_check("candle", |options: &upcycle_candle::Options, model| {
        refuse_graph(model)?;
        let max_context = upcycle_candle::Model::check(model.path, options)?;
        Ok(ModelFit { kind: TreeKind::Tree, max_context, kv_bytes: None })
    });
    #[cfg(feature = "ort")]
    registry.add_backend(
        "ort",
        ORT,
        Some("ort"),
        Devices::Probed(ort_providers),
        |options: &upcycle_ort::Options, model, progress| {
            // The runtime does not report its progress.
            progress(Progress { done: 0, total: 1 });
            let model = upcycle_ort::Model::load(model.path, options)?;
            progress(Progress { done: 1, total: 1 });
            Ok(Box::new(upcycle_ort::OrtVerifier::new(model)))
        },
    );
    #[cfg(feature = "ort")]
    registry.add_check("ort", |options: &upcycle_ort::Options, model| {
        let (support, max_context) = upcycle_ort::Model::check(model.path, options)?;
        Ok(ModelFit { kind: support.kind(), max_context, kv_bytes: None })
    });
    #[cfg(feature = "llama-cpp")]
    registry.add_backend(
        "llama-cpp",
        LLAMA_CPP,
        Some("llama-cpp"),
        Devices::Probed(llama_cpp::devices),
        llama_cpp::load,
    );
    #[cfg(feature = "llama-cpp")]
    registry.add_check("llama-cpp", llama_cpp::check);
}

#[cfg(any(feature = "cpu", feature = "candle"))]
fn known(names: &[&str]) -> Devices {
    Devices::Known(names.iter().map(|&name| name.to_owned()).collect())
}

#[cfg(feature = "candle")]
const CANDLE_DEVICES: &[&str] = match (cfg!(feature = "candle-cuda"), cfg!(feature = "candle-metal")) {
    (false, false) => &["cpu"],
    (true, false) => &["cpu", "cuda"],
    (false, true) => &["cpu", "metal"],
    (true, true) => &["cpu", "cuda", "metal"],
};

/// The providers of the library on this machine, or why there are none.
#[cfg(feature = "ort")]
fn ort_providers() -> Result<Vec<String>, String> {
    let providers = upcycle_ort::providers(None).map_err(|error| error.to_string())?;
    Ok(providers.into_iter().map(|provider| provider.name().to_owned()).collect())
}
