//! Registering execution providers with a session.

use std::path::Path;

use ort::ep::{self, ArbitrarilyConfigurableExecutionProvider, ExecutionProvider, ExecutionProviderDispatch};
use ort::session::builder::SessionBuilder;
use tracing::warn;

use crate::error::LoadError;
use crate::options::{Options, Provider, ProviderOption};

impl Provider {
    /// Whether the loaded library was built with this provider.
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

    /// The registration of this provider.
    fn dispatch(self, options: &Options) -> Result<ExecutionProviderDispatch, LoadError> {
        let mut own = options.provider_options.iter().filter(|option| option.provider == self);
        // The runtime takes strings that end with a zero byte.
        if let Some(option) =
            own.clone().find(|option| option.key.contains('\0') || option.value.contains('\0'))
        {
            return Err(LoadError::ProviderOption { provider: self.name(), key: option.key.clone() });
        }
        Ok(match self {
            // TF32 rounds factors to eleven bits. It is off by default, so that `f32` stays `f32`.
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

/// The requested providers that are available, in their order.
///
/// # Errors
/// [`LoadError::ProviderAbsent`] for the first that is not, unless the options allow to skip it.
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
            warn!(provider = provider.name(), "this ONNX Runtime lacks the provider; it is skipped");
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

/// Registers the providers with a session. Returns the first of them, or the CPU if there is none.
pub(crate) fn register(
    mut builder: SessionBuilder,
    options: &Options,
    library: &Path,
) -> Result<(SessionBuilder, Provider), LoadError> {
    let mut first = None;
    let mut chosen = choose(options, library, Provider::is_available)?;
    if !chosen.contains(&Provider::Cpu) {
        // It runs the remaining nodes in any case. Registering it sets its arena.
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
                warn!(provider = provider.name(), %error, "the provider failed to start; it is skipped");
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
    fn providers_keep_the_requested_order() {
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
    fn an_absent_provider_is_an_error_unless_fallback_is_set() {
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
