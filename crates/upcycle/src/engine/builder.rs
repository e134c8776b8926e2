//! Building an engine from a few settings.

use std::io;
use std::path::Path;

use super::Engine;
use crate::config::{ConfigBuilder, ConfigError};
use crate::costs::CostCache;
use crate::load_error::LoadError;
use crate::loaded_model::DecoderError;
use crate::registry::Registry;

/// Why an engine could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// A setting is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The model cannot be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The drafter cannot be made.
    #[error(transparent)]
    Decoder(#[from] DecoderError),
    /// The system gives no thread.
    #[error("cannot start the engine's thread")]
    Thread(#[source] io::Error),
}

/// Collects the settings of an [`Engine`]. [`build`](Self::build) reports the first error.
#[derive(Debug)]
pub struct EngineBuilder {
    registry: Registry,
    settings: Result<ConfigBuilder, ConfigError>,
    costs: CostCache,
}

impl EngineBuilder {
    /// A builder that knows the backends, drafters and sources of `registry`.
    #[must_use]
    pub fn new(registry: Registry) -> Self {
        let settings = Ok(ConfigBuilder::new(&registry));
        Self { registry, settings, costs: CostCache::user_cache() }
    }

    fn setting(mut self, set: impl FnOnce(&mut ConfigBuilder) -> Result<(), ConfigError>) -> Self {
        if let Ok(settings) = &mut self.settings
            && let Err(error) = set(settings)
        {
            self.settings = Err(error);
        }
        self
    }

    /// The model: a file, a folder, or `hf:owner/repo` with the cargo feature `hub`.
    #[must_use]
    pub fn model(self, path: impl AsRef<Path>) -> Self {
        let path = path.as_ref().display().to_string();
        self.set("model.path", &path)
    }

    /// A configuration file. Settings override it, whatever the order of the calls.
    #[must_use]
    pub fn config_file(self, path: impl AsRef<Path>) -> Self {
        self.setting(|settings| settings.file(path.as_ref()))
    }

    /// One setting, by its key: `set("drafter.budget", "8")`. The page of the configuration lists all keys.
    #[must_use]
    pub fn set(self, key: &str, value: &str) -> Self {
        self.setting(|settings| settings.flag("EngineBuilder::set", key, value))
    }

    /// Where measured costs of passes are kept: in the user's cache folder, unless set.
    #[must_use]
    pub fn cost_cache(mut self, costs: CostCache) -> Self {
        self.costs = costs;
        self
    }

    /// Loads the model and starts the engine.
    ///
    /// # Errors
    /// [`EngineError`].
    pub fn build(self) -> Result<Engine, EngineError> {
        let config = self.settings?.build()?;
        Engine::load(&config, &self.registry, &self.costs, &mut |_| {})
    }
}
