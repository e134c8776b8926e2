//! Which backends there are, and how each is built.

use std::error::Error;
use std::fmt;
use std::path::Path;

use upcycle_checkpoint::gguf::Gguf;
use upcycle_core::Verifier;

use crate::Config;
use crate::config::nearest;

/// What a builder gets.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// The model file.
    pub path: &'a Path,
    /// Its header, if it is a GGUF file.
    pub gguf: Option<&'a Gguf>,
    /// The configuration; each backend reads its own table.
    pub config: &'a Config,
}

/// How far a load has come; `total` is 0 where that is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Parts done.
    pub done: u64,
    /// Parts in all.
    pub total: u64,
}

/// Is told how far a load has come.
pub type OnProgress<'a> = &'a mut dyn FnMut(Progress);

/// What a builder returns: the backend with the model in it, or what stands in the way.
pub type Built = Result<Box<dyn Verifier>, Box<dyn Error + Send + Sync>>;

/// Loads a model into a backend.
pub type Builder = Box<dyn Fn(Source<'_>, OnProgress<'_>) -> Built + Send + Sync>;

/// Whether a backend can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Availability {
    /// It can be built.
    Ready,
    /// This binary was compiled without it.
    NotCompiled,
    /// No version has it yet.
    Planned,
}

impl Availability {
    /// Its name in reports: `ready`, `not-compiled`, `planned`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Availability::Ready => "ready",
            Availability::NotCompiled => "not-compiled",
            Availability::Planned => "planned",
        }
    }
}

/// What is known of a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendInfo {
    /// Its name in the configuration.
    pub name: String,
    /// What it is, in a few words.
    pub about: String,
    /// Whether it can be used.
    pub availability: Availability,
    /// The cargo feature that compiles it in; none for a backend that a program has registered.
    pub feature: Option<&'static str>,
    /// Devices it can run on. For a backend whose library is loaded at run time, [`Registry::probe`] fills them in.
    pub devices: Vec<String>,
    /// What stands in its way on this machine, once [`Registry::probe`] has asked.
    pub obstacle: Option<String>,
}

/// Backends by name.
///
/// A new backend of this workspace is one entry in [`Registry::builtin`]; a program adds its own with
/// [`register`](Self::register).
///
/// ```
/// use upcycle::{Availability, Registry};
/// use upcycle_core::Verifier;
///
/// let mut registry = Registry::builtin();
/// registry.register("mine", "an example", &["cpu"], |_source, _progress| Err("no model today".into()));
/// assert!(registry.names().contains(&"mine"));
/// let info = registry.info().find(|backend| backend.name == "mine").unwrap();
/// assert_eq!(info.availability, Availability::Ready);
/// ```
pub struct Registry {
    entries: Vec<(BackendInfo, Option<Builder>)>,
}

/// Why a backend was not built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// Nobody has registered this name.
    #[error("there is no backend {name:?}; {hint}")]
    Unknown {
        /// The name.
        name: String,
        /// The nearest name, or all of them.
        hint: String,
    },
    /// The binary was compiled without it.
    #[error(
        "backend `{name}` is not compiled into this binary; build it with `cargo build --features {feature}`"
    )]
    NotCompiled {
        /// The name.
        name: String,
        /// The feature.
        feature: &'static str,
    },
    /// It does not exist yet.
    #[error("backend `{name}` is planned and not part of this version, with no feature of it; use {usable}")]
    Planned {
        /// The name.
        name: String,
        /// What can be used instead.
        usable: String,
    },
    /// The backend could not load the model.
    #[error("backend `{name}` could not load the model")]
    Failed {
        /// The name.
        name: String,
        /// What it said.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

impl Registry {
    /// The backends of this workspace: those compiled in, and the names of the others.
    #[must_use]
    pub fn builtin() -> Self {
        let mut registry = Self { entries: Vec::new() };
        registry.mention(
            "cpu",
            "llama and Qwen models from GGUF and safetensors, bit for bit, in pure Rust",
            Availability::NotCompiled,
        );
        #[cfg(feature = "cpu")]
        registry.compiled_in("cpu", &["cpu"], crate::cpu::build);
        registry.mention(
            "candle",
            "the same models on candle's tensors, GPUs too",
            Availability::NotCompiled,
        );
        #[cfg(feature = "candle")]
        registry.compiled_in("candle", crate::candle::DEVICES, crate::candle::build);
        registry.mention("ort", "exported models on ONNX Runtime", Availability::NotCompiled);
        #[cfg(feature = "ort")]
        registry.compiled_in("ort", &[], crate::ort::build);
        registry.mention(
            "llama-cpp",
            "GGUF files of any architecture in llama.cpp",
            Availability::NotCompiled,
        );
        #[cfg(feature = "llama-cpp")]
        registry.compiled_in("llama-cpp", &[], crate::llama_cpp::build);
        registry
    }

    /// Asks the libraries that backends load at run time what they can run on here.
    pub fn probe(&mut self) {
        #[cfg(feature = "ort")]
        self.probe_one("ort", crate::ort::devices);
        #[cfg(feature = "llama-cpp")]
        self.probe_one("llama-cpp", crate::llama_cpp::devices);
    }

    #[cfg(any(feature = "ort", feature = "llama-cpp"))]
    fn probe_one(&mut self, name: &str, devices: fn() -> Result<Vec<String>, String>) {
        if let Some((info, Some(_))) = self.entries.iter_mut().find(|(info, _)| info.name == name) {
            match devices() {
                Ok(devices) => info.devices = devices,
                Err(obstacle) => info.obstacle = Some(obstacle),
            }
        }
    }

    /// Adds a backend, or replaces the one of that name.
    pub fn register(
        &mut self,
        name: &str,
        about: &str,
        devices: &[&str],
        build: impl Fn(Source<'_>, OnProgress<'_>) -> Built + Send + Sync + 'static,
    ) {
        let info = BackendInfo {
            name: name.to_owned(),
            about: about.to_owned(),
            availability: Availability::Ready,
            feature: None,
            devices: devices.iter().map(|&device| device.to_owned()).collect(),
            obstacle: None,
        };
        self.insert(info, Some(Box::new(build)));
    }

    /// Adds a backend of this workspace, which has the feature of its name, without a builder.
    fn mention(&mut self, name: &'static str, about: &str, availability: Availability) {
        let (feature, devices) = (Some(name), Vec::new());
        let (name, about) = (name.to_owned(), about.to_owned());
        let info = BackendInfo { name, about, availability, feature, devices, obstacle: None };
        self.insert(info, None);
    }

    /// Gives a mentioned backend its builder.
    #[cfg(any(feature = "cpu", feature = "candle", feature = "ort", feature = "llama-cpp"))]
    fn compiled_in(
        &mut self,
        name: &'static str,
        devices: &[&str],
        build: fn(Source<'_>, OnProgress<'_>) -> Built,
    ) {
        if let Some((info, builder)) = self.entries.iter_mut().find(|(info, _)| info.name == name) {
            info.availability = Availability::Ready;
            info.devices = devices.iter().map(|&device| device.to_owned()).collect();
            *builder = Some(Box::new(build));
        }
    }

    fn insert(&mut self, info: BackendInfo, builder: Option<Builder>) {
        match self.entries.iter_mut().find(|(entry, _)| entry.name == info.name) {
            Some(entry) => *entry = (info, builder),
            None => self.entries.push((info, builder)),
        }
    }

    /// All names, in order of registration; those that cannot be built included.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        self.entries.iter().map(|(info, _)| info.name.as_str()).collect()
    }

    /// What is known of each, in order of registration.
    pub fn info(&self) -> impl Iterator<Item = &BackendInfo> + '_ {
        self.entries.iter().map(|(info, _)| info)
    }

    /// Whether `backend` can be built, before a model is opened for it.
    ///
    /// # Errors
    /// [`BuildError`], but for [`BuildError::Failed`].
    pub fn check(&self, backend: &str) -> Result<(), BuildError> {
        self.builder(backend).map(drop)
    }

    /// Builds the configured backend over the model of `source`.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn build(
        &self,
        source: Source<'_>,
        progress: OnProgress<'_>,
    ) -> Result<Box<dyn Verifier>, BuildError> {
        self.build_named(&source.config.backend().name, source, progress)
    }

    /// As [`build`](Self::build), with the backend of this name, whichever is configured.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn build_named(
        &self,
        name: &str,
        source: Source<'_>,
        progress: OnProgress<'_>,
    ) -> Result<Box<dyn Verifier>, BuildError> {
        let build = self.builder(name)?;
        let _span = tracing::info_span!("build", backend = %name, model = %source.path.display()).entered();
        build(source, progress).map_err(|source| BuildError::Failed { name: name.to_owned(), source })
    }

    fn builder(&self, name: &str) -> Result<&Builder, BuildError> {
        let owned = name.to_owned();
        match self.entries.iter().find(|(info, _)| info.name == name) {
            Some((_, Some(builder))) => Ok(builder),
            Some((
                BackendInfo { availability: Availability::NotCompiled, feature: Some(feature), .. },
                None,
            )) => Err(BuildError::NotCompiled { name: owned, feature }),
            Some((_, None)) => Err(BuildError::Planned { name: owned, usable: self.usable() }),
            None => {
                let hint = match nearest(name, self.names()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("use {}", self.usable()),
                };
                Err(BuildError::Unknown { name: owned, hint })
            }
        }
    }

    fn usable(&self) -> String {
        let usable = self.entries.iter().filter(|(_, builder)| builder.is_some());
        let names: Vec<String> = usable.map(|(info, _)| format!("`{}`", info.name)).collect();
        if names.is_empty() { "a binary with a backend compiled in".to_owned() } else { names.join(" or ") }
    }
}

impl Default for Registry {
    fn default() -> Self {
        Self::builtin()
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.info()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_cannot_be_built_says_why() {
        let mut registry = Registry::builtin();
        registry.mention("cuda", "an example", Availability::NotCompiled);
        registry.mention("someday", "another", Availability::Planned);
        let message = |name| registry.check(name).unwrap_err().to_string();
        assert!(message("cuda").contains("--features cuda"));
        assert!(message("someday").contains("planned and not part of this version"));
        assert!(message("candel").contains("did you mean `candle`?"));
        assert!(!message("xyzzy").contains("did you mean"));
    }

    #[test]
    fn a_registered_name_replaces_the_one_that_was_there() {
        let mut registry = Registry::builtin();
        let before = registry.names().len();
        registry.register("ort", "mine", &[], |_, _| Err("broken".into()));
        assert!(registry.check("ort").is_ok());
        assert_eq!(registry.names().len(), before);
    }
}
