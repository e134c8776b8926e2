//! The ONNX Runtime backend as the registry builds it.

use upcycle_ort::{Model, Options, OrtVerifier, Provider, ProviderOption};

use crate::{Built, GraphOptimization, OnProgress, OrtChoice, OrtProvider, Progress, Source};

pub(crate) fn build(source: Source<'_>, progress: OnProgress<'_>) -> Built {
    // The runtime does not tell how far it has come.
    progress(Progress { done: 0, total: 1 });
    let model = Model::load(source.path, &options(&source.config.backend().ort))?;
    progress(Progress { done: 1, total: 1 });
    Ok(Box::new(OrtVerifier::new(model)))
}

/// The providers that the library of this machine has, or why there is none.
pub(crate) fn devices() -> Result<Vec<String>, String> {
    let providers = upcycle_ort::providers(None).map_err(|error| error.to_string())?;
    Ok(providers.into_iter().map(|provider| provider.name().to_owned()).collect())
}

fn options(choice: &OrtChoice) -> Options {
    Options {
        library: choice.library.clone(),
        providers: choice.providers.iter().copied().map(provider).collect(),
        provider_options: choice
            .provider_options
            .iter()
            .map(|option| ProviderOption {
                provider: provider(option.provider),
                key: option.key.clone(),
                value: option.value.clone(),
            })
            .collect(),
        fallback: choice.fallback,
        intra_threads: choice.intra_threads,
        inter_threads: choice.inter_threads,
        graph_optimization: match choice.graph_optimization {
            GraphOptimization::Disable => upcycle_ort::GraphOptimization::Disable,
            GraphOptimization::Basic => upcycle_ort::GraphOptimization::Basic,
            GraphOptimization::Extended => upcycle_ort::GraphOptimization::Extended,
            GraphOptimization::All => upcycle_ort::GraphOptimization::All,
        },
        arena: choice.arena,
        spinning: choice.spinning,
        profiling: choice.profiling.clone(),
    }
}

fn provider(choice: OrtProvider) -> Provider {
    match choice {
        OrtProvider::Cuda => Provider::Cuda,
        OrtProvider::TensorRt => Provider::TensorRt,
        OrtProvider::Rocm => Provider::Rocm,
        OrtProvider::DirectMl => Provider::DirectMl,
        OrtProvider::CoreMl => Provider::CoreMl,
        OrtProvider::OpenVino => Provider::OpenVino,
        OrtProvider::Xnnpack => Provider::Xnnpack,
        OrtProvider::Cpu => Provider::Cpu,
    }
}
