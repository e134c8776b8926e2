//! What runs the nodes of a graph.

use std::path::Path;

use ort::ep::{self, ArbitrarilyConfigurableExecutionProvider, ExecutionProvider, ExecutionProviderDispatch};
use ort::session::builder::SessionBuilder;
use tracing::warn;

use crate::{LoadError, Options};

/// An execution provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Provider {
    /// NVIDIA GPUs.
    Cuda,
    /// NVIDIA GPUs, compiled.
    TensorRt,
    /// AMD GPUs.
    Rocm,
    /// GPUs on Windows.
    DirectMl,
    /// Apple's processors.
    CoreMl,
    /// Intel's processors.
    OpenVino,
    /// The XNNPACK kernels on the CPU.
    Xnnpack,
    /// The runtime's own kernels on the CPU.
    Cpu,
}

/// An option of a provider, under the provider's own name for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderOption {
    /// Whose it is.
    pub provider: Provider,
    /// Its name, such as `device_id`.
    pub key: String,
    /// Its value.
    pub value: String,
}

impl Provider {
    /// All of them.
    pub const ALL: &[Provider] = &[
        Provider::Cuda,
        Provider::TensorRt,
        Provider::Rocm,
        Provider::DirectMl,
        Provider::CoreMl,
        Provider::OpenVino,
        Provider::Xnnpack,
        Provider::Cpu,
    ];

    /// Its name in the configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Provider::Cuda => "cuda",
            Provider::TensorRt => "tensorrt",
            Provider::Rocm => "rocm",
            Provider::DirectMl => "directml",
            Provider::CoreMl => "coreml",
            Provider::OpenVino => "openvino",
            Provider::Xnnpack => "xnnpack",
            Provider::Cpu => "cpu",
        }
    }

    /// Whether the loaded library was built with it.
    pub(crate) fn is_available(self) -> bool {
        let available = match self {
            Provider::Cuda => ep::CUDA::is_available(),
            Provider::TensorRt => ep::TensorRT::is_available(),
            Provider::Rocm => ep::ROCm::is_available(),
            Provider::DirectMl => ep::DirectML::is_available(),
            Provider::CoreMl => ep::CoreML::is_available(),
            Provider::OpenVino => ep::OpenVINO::is_available(),
            Provider::Xnnpack => ep::XNNPACK::is_available(),
            Provider::Cpu => ep::CPU::is_available(),
        };
        available.unwrap_or(false)
    }

    /// What the runtime is given for it.
    fn dispatch(self, options: &Options) -> Result<ExecutionProviderDispatch, LoadError> {
        let mut own = options.provider_options.iter().filter(|option| option.provider == self);
        // The runtime takes strings that end with a zero.
        if let Some(option) =
            own.clone().find(|option| option.key.contains('\0') || option.value.contains('\0'))
        {
            return Err(LoadError::ProviderOption { provider: self.name(), key: option.key.clone() });
        }
        Ok(match self {
            // Without TF32, which rounds what is multiplied to eleven bits: `f32` is to be `f32`, unless it is asked for.
            Provider::Cuda => configured(ep::CUDA::default().with_tf32(false), own).build(),
            Provider::TensorRt => configured(ep::TensorRT::default(), own).build(),
            Provider::Rocm => configured(ep::ROCm::default(), own).build(),
            Provider::CoreMl => configured(ep::CoreML::default(), own).build(),
            Provider::OpenVino => configured(ep::OpenVINO::default(), own).build(),
            Provider::Xnnpack => configured(ep::XNNPACK::default(), own).build(),
            Provider::DirectMl | Provider::Cpu => {
                if let Some(option) = own.next() {
                    return Err(LoadError::ProviderOption { provider: self.name(), key: option.key.clone() });
                }
                match self {
                    Provider::DirectMl => ep::DirectML::default().build(),
                    _ => ep::CPU::default().with_arena_allocator(options.arena).build(),
                }
            }
        })
    }

    fn advice(self) -> &'static str {
        match self {
            Provider::Cuda | Provider::TensorRt => {
                "`./scripts/setup-ort.sh --cuda` fetches one with CUDA and TensorRT"
            }
            _ => "name a library that was built with it in backend.ort.library",
        }
    }
}

fn configured<'a, E: ArbitrarilyConfigurableExecutionProvider>(
    provider: E,
    options: impl Iterator<Item = &'a ProviderOption>,
) -> E {
    options.fold(provider, |provider, option| provider.with_arbitrary_config(&option.key, &option.value))
}

/// The providers to use of those that are asked for, in their order.
///
/// # Errors
/// The first that is not available, unless the options allow to go on without.
fn choose(
    options: &Options,
    library: &Path,
    available: impl Fn(Provider) -> bool,
) -> Result<Vec<Provider>, LoadError> {
    let mut chosen = Vec::new();
    for &provider in &options.providers {
        if available(provider) {
            chosen.push(provider);
        } else if options.fallback {
            warn!(provider = provider.name(), "this ONNX Runtime lacks the provider; going on without it");
        } else {
            let all = Provider::ALL.iter().filter(|&&provider| available(provider));
            return Err(LoadError::ProviderAbsent {
                provider: provider.name(),
                library: library.to_owned(),
                available: all
                    .map(|provider| format!("`{}`", provider.name()))
                    .collect::<Vec<_>>()
                    .join(", "),
                advice: provider.advice(),
            });
        }
    }
    Ok(chosen)
}

/// Gives a session its providers; the first of them is returned, the CPU if there is none.
pub(crate) fn register(
    mut builder: SessionBuilder,
    options: &Options,
    library: &Path,
) -> Result<(SessionBuilder, Provider), LoadError> {
    let mut first = None;
    let mut chosen = choose(options, library, Provider::is_available)?;
    if !chosen.contains(&Provider::Cpu) {
        // It takes what is left in any case; this is how its arena is set.
        chosen.push(Provider::Cpu);
    }
    for provider in chosen {
        let dispatch = provider.dispatch(options)?.error_on_failure();
        builder = match builder.with_execution_providers([dispatch]) {
            Ok(builder) => {
                first = first.or(Some(provider));
                builder
            }
            Err(error) if options.fallback => {
                warn!(provider = provider.name(), %error, "the provider does not start; going on without it");
                error.recover()
            }
            Err(error) => {
                return Err(LoadError::ProviderFailed {
                    provider: provider.name(),
                    reason: error.to_string(),
                });
            }
        };
    }
    Ok((builder, first.unwrap_or(Provider::Cpu)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn providers_are_taken_in_the_order_asked_for() {
        let has = |provider| matches!(provider, Provider::Cuda | Provider::TensorRt | Provider::Cpu);
        for asked in [
            vec![Provider::TensorRt, Provider::Cuda, Provider::Cpu],
            vec![Provider::Cuda, Provider::TensorRt],
            vec![Provider::Cpu],
            vec![],
        ] {
            let options = Options { providers: asked.clone(), ..Options::default() };
            assert_eq!(choose(&options, Path::new("lib"), has).ok(), Some(asked));
        }
    }

    #[test]
    fn an_absent_provider_is_an_error_unless_the_options_say_otherwise() {
        let has = |provider| provider == Provider::Cpu;
        let mut options =
            Options { providers: vec![Provider::Cuda, Provider::Rocm, Provider::Cpu], ..Options::default() };
        let error = choose(&options, Path::new("lib"), has).unwrap_err().to_string();
        assert!(error.contains("asks for `cuda`") && error.contains("it has `cpu`"), "{error}");
        assert!(error.contains("setup-ort.sh --cuda") && error.contains("fallback"), "{error}");
        options.fallback = true;
        assert_eq!(choose(&options, Path::new("lib"), has).ok(), Some(vec![Provider::Cpu]));
    }
}
