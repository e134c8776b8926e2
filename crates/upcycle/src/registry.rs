//! Backends, drafters and sources by name, each with its own options.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use upcycle_core::mixed::CandidateSource;
use upcycle_core::{Drafter, TreeKind, Verifier};

use crate::options::{AnyOptions, Options, OptionsType};
use crate::parts::{BoxError, BuildError, DrafterSetup, ModelSource, OnProgress, Role, SourceSetup};
use crate::suggest::expected;

type BuildBackend = Arc<
    dyn Fn(&AnyOptions, ModelSource<'_>, OnProgress<'_>) -> Result<Box<dyn Verifier>, BuildError>
        + Send
        + Sync,
>;
type BuildDrafter =
    Arc<dyn Fn(&AnyOptions, &DrafterSetup<'_>) -> Result<Box<dyn Drafter>, BuildError> + Send + Sync>;
type BuildSource =
    Arc<dyn Fn(&AnyOptions, SourceSetup<'_>) -> Result<Box<dyn CandidateSource>, BuildError> + Send + Sync>;

type CheckModel = Arc<dyn Fn(&AnyOptions, ModelSource<'_>) -> Result<ModelFit, BuildError> + Send + Sync>;

/// What a backend can do with a model, by the headers of its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModelFit {
    /// The kind of drafts that it verifies.
    pub kind: TreeKind,
    /// The longest context.
    pub max_context: usize,
    /// Bytes of the keys and values of a token, if the backend tells.
    pub kv_bytes: Option<usize>,
}

/// A backend's name, devices and cargo feature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendInfo {
    /// Its name in the configuration.
    pub name: String,
    /// What it is, in a few words.
    pub about: String,
    /// Whether it is compiled in.
    pub compiled: bool,
    /// The cargo feature that compiles it in; `None` for a backend that a program registered.
    pub feature: Option<&'static str>,
    /// The devices it can run on; empty if only [`Registry::probe`] finds them.
    pub devices: Vec<String>,
    /// Why it cannot run on this machine, as found by [`Registry::probe`].
    pub obstacle: Option<String>,
}

/// The devices of a backend.
#[derive(Clone)]
pub(crate) enum Devices {
    Known(Vec<String>),
    /// Asks the library that the backend loads.
    #[cfg_attr(
        not(any(feature = "ort", feature = "llama-cpp")),
        expect(dead_code, reason = "only libraries that are loaded or linked are asked for their devices")
    )]
    Probed(fn() -> Result<Vec<String>, String>),
}

/// A registered name. `built` is `None` if it is not compiled in.
#[derive(Clone)]
struct Entry<B> {
    name: String,
    about: String,
    feature: Option<&'static str>,
    built: Option<(OptionsType, B)>,
}

/// Backends, drafters and sources by name.
///
/// [`Registry::builtin`] has those of this workspace. A program can add its own. They can then be used from TOML and in every
/// command of `upcycle_cli::main_with`. The options of a name come from its table: `[backend.NAME]`, `[drafter.NAME]` or
/// `[drafter.source.NAME]`.
///
/// ```
/// use schemars::JsonSchema;
/// use serde::{Deserialize, Serialize};
/// use upcycle::{ConfigBuilder, DrafterSetup, Registry};
/// use upcycle_core::{DraftContext, DraftTree, Drafter, NodeId};
///
/// /// Guesses that the last token comes again.
/// struct Repeat(usize);
///
/// impl Drafter for Repeat {
///     fn draft(&mut self, context: DraftContext<'_>, tree: &mut DraftTree) {
///         let (Some(&last), mut node) = (context.tokens.last(), NodeId::ROOT) else { return };
///         for _ in 0..self.0 {
///             let Ok(child) = tree.push(node, last, None) else { return };
///             node = child;
///         }
///     }
/// }
///
/// #[derive(Default, Serialize, Deserialize, JsonSchema)]
/// #[serde(default, deny_unknown_fields)]
/// struct RepeatOptions {
///     /// How often.
///     times: usize,
/// }
///
/// let mut registry = Registry::builtin();
/// registry.register_drafter("repeat", "the last token, again", |options: &RepeatOptions, _: &DrafterSetup<'_>| {
///     Ok(Box::new(Repeat(options.times)))
/// });
///
/// let mut builder = ConfigBuilder::new(&registry);
/// builder.assignment("--set", "drafter.name=repeat")?;
/// builder.assignment("--set", "drafter.repeat.times=3")?;
/// let drafter = builder.build()?.drafter().build(&registry, 1000, None, None)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Registry {
    backends: Vec<Entry<(BuildBackend, Devices)>>,
    /// By the backend's name.
    checks: BTreeMap<String, CheckModel>,
    drafters: Vec<Entry<BuildDrafter>>,
    sources: Vec<Entry<BuildSource>>,
}

impl Registry {
    /// A registry without any names.
    #[must_use]
    pub fn empty() -> Self {
        Self { backends: Vec::new(), checks: BTreeMap::new(), drafters: Vec::new(), sources: Vec::new() }
    }

    /// Adds a backend, or replaces the one of that name.
    pub fn register_backend<O: Options>(
        &mut self,
        name: &str,
        about: &str,
        devices: &[&str],
        load: impl Fn(&O, ModelSource<'_>, OnProgress<'_>) -> Result<Box<dyn Verifier>, BoxError>
        + Send
        + Sync
        + 'static,
    ) {
        let devices = Devices::Known(devices.iter().map(|&device| device.to_owned()).collect());
        self.add_backend(name, about, None, devices, load);
    }

    /// As [`register_backend`](Self::register_backend), for one that a cargo feature compiles in.
    pub(crate) fn add_backend<O: Options>(
        &mut self,
        name: &str,
        about: &str,
        feature: Option<&'static str>,
        devices: Devices,
        load: impl Fn(&O, ModelSource<'_>, OnProgress<'_>) -> Result<Box<dyn Verifier>, BoxError>
        + Send
        + Sync
        + 'static,
    ) {
        // A check belongs to the backend that is replaced.
        self.checks.remove(name);
        let owned = name.to_owned();
        let build: BuildBackend = Arc::new(move |options, model, progress| {
            let options = downcast_options(Role::Backend, &owned, options)?;
            load(options, model, progress).map_err(|source| BuildError::Load { name: owned.clone(), source })
        });
        insert(&mut self.backends, name, about, feature, Some((OptionsType::new::<O>(), (build, devices))));
    }

    /// Adds the check of a backend, which reads no weights.
    #[cfg_attr(
        not(any(feature = "cpu", feature = "candle", feature = "ort", feature = "llama-cpp")),
        expect(dead_code, reason = "only backends of this workspace have a check")
    )]
    pub(crate) fn add_check<O: Options>(
        &mut self,
        name: &str,
        check: impl Fn(&O, ModelSource<'_>) -> Result<ModelFit, BoxError> + Send + Sync + 'static,
    ) {
        let owned = name.to_owned();
        let check: CheckModel = Arc::new(move |options, model| {
            let options = downcast_options(Role::Backend, &owned, options)?;
            check(options, model).map_err(|source| BuildError::Load { name: owned.clone(), source })
        });
        self.checks.insert(name.to_owned(), check);
    }

    /// Registers only the name of a backend of this workspace that is not compiled in.
    pub(crate) fn register_uncompiled_backend(&mut self, name: &str, about: &str, feature: &'static str) {
        insert(&mut self.backends, name, about, Some(feature), None);
    }

    /// Adds a drafter, or replaces the one of that name. It begins with empty tables.
    pub fn register_drafter<O: Options>(
        &mut self,
        name: &str,
        about: &str,
        build: impl Fn(&O, &DrafterSetup<'_>) -> Result<Box<dyn Drafter>, BoxError> + Send + Sync + 'static,
    ) {
        let owned = name.to_owned();
        let build: BuildDrafter = Arc::new(move |options, setup| {
            let options = downcast_options(Role::Drafter, &owned, options)?;
            build(options, setup).map_err(|source| build_failed(Role::Drafter, &owned, source))
        });
        insert(&mut self.drafters, name, about, None, Some((OptionsType::new::<O>(), build)));
    }

    /// Adds a source of the drafter `mixed`, or replaces the one of that name.
    pub fn register_source<O: Options>(
        &mut self,
        name: &str,
        about: &str,
        build: impl Fn(&O, SourceSetup<'_>) -> Result<Box<dyn CandidateSource>, BoxError> + Send + Sync + 'static,
    ) {
        let owned = name.to_owned();
        let build: BuildSource = Arc::new(move |options, setup| {
            let options = downcast_options(Role::Source, &owned, options)?;
            build(options, setup).map_err(|source| build_failed(Role::Source, &owned, source))
        });
        insert(&mut self.sources, name, about, None, Some((OptionsType::new::<O>(), build)));
    }

    /// All backends, in order of registration, including those that are not compiled in.
    pub fn backends(&self) -> impl Iterator<Item = BackendInfo> + '_ {
        self.backends.iter().map(|entry| BackendInfo {
            name: entry.name.clone(),
            about: entry.about.clone(),
            compiled: entry.built.is_some(),
            feature: entry.feature,
            devices: match &entry.built {
                Some((_, (_, Devices::Known(devices)))) => devices.clone(),
                _ => Vec::new(),
            },
            obstacle: None,
        })
    }

    /// As [`backends`](Self::backends), after asking the libraries that backends load for their devices.
    #[must_use]
    pub fn probe(&self) -> Vec<BackendInfo> {
        let probe = |(entry, mut info): (&Entry<(BuildBackend, Devices)>, BackendInfo)| {
            if let Some((_, (_, Devices::Probed(probe)))) = &entry.built {
                match probe() {
                    Ok(devices) => info.devices = devices,
                    Err(obstacle) => info.obstacle = Some(obstacle),
                }
            }
            info
        };
        self.backends.iter().zip(self.backends()).map(probe).collect()
    }

    /// Checks that a backend can be built, before a model is opened for it.
    ///
    /// # Errors
    /// [`BuildError::Unknown`], [`BuildError::NotCompiled`].
    pub fn check_backend(&self, name: &str) -> Result<(), BuildError> {
        find(&self.backends, Role::Backend, name).map(drop)
    }

    /// Checks by the headers of a model's files that a backend can load it. No weights are read. `None` for a backend that a
    /// program registered: only loading shows it.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn check_model(
        &self,
        name: &str,
        options: Option<&AnyOptions>,
        model: ModelSource<'_>,
    ) -> Result<Option<ModelFit>, BuildError> {
        find(&self.backends, Role::Backend, name)?;
        let Some(check) = self.checks.get(name) else { return Ok(None) };
        check(required_options(Role::Backend, name, options)?, model).map(Some)
    }

    /// Loads a model into a backend.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn build_backend(
        &self,
        name: &str,
        options: Option<&AnyOptions>,
        model: ModelSource<'_>,
        progress: OnProgress<'_>,
    ) -> Result<Box<dyn Verifier>, BuildError> {
        let (build, _) = find(&self.backends, Role::Backend, name)?;
        let _span = tracing::info_span!("build", backend = %name, model = %model.path.display()).entered();
        build(required_options(Role::Backend, name, options)?, model, progress)
    }

    pub(crate) fn build_drafter(
        &self,
        name: &str,
        options: Option<&AnyOptions>,
        setup: &DrafterSetup<'_>,
    ) -> Result<Box<dyn Drafter>, BuildError> {
        find(&self.drafters, Role::Drafter, name)?(required_options(Role::Drafter, name, options)?, setup)
    }

    pub(crate) fn build_source(
        &self,
        name: &str,
        options: Option<&AnyOptions>,
        setup: SourceSetup<'_>,
    ) -> Result<Box<dyn CandidateSource>, BuildError> {
        find(&self.sources, Role::Source, name)?(required_options(Role::Source, name, options)?, setup)
    }

    /// The tables of options: section, name, and the type of the options if the part is compiled in.
    pub(crate) fn tables(&self) -> Vec<(&'static str, &str, Option<&OptionsType>)> {
        fn role_tables<B>(
            role: Role,
            entries: &[Entry<B>],
        ) -> impl Iterator<Item = (&'static str, &str, Option<&OptionsType>)> {
            entries.iter().map(move |entry| {
                (role.section(), entry.name.as_str(), entry.built.as_ref().map(|(options, _)| options))
            })
        }
        role_tables(Role::Backend, &self.backends)
            .chain(role_tables(Role::Drafter, &self.drafters))
            .chain(role_tables(Role::Source, &self.sources))
            .collect()
    }

    /// The keys that take registered names, with these names and their descriptions.
    pub(crate) fn names_by_key(&self) -> [(&'static str, Vec<(String, String)>); 3] {
        [
            (Role::Backend.key(), names(&self.backends)),
            (Role::Drafter.key(), names(&self.drafters)),
            (Role::Source.key(), names(&self.sources)),
        ]
    }

    /// The function that registers a name for this key.
    pub(crate) fn how_to_register(key: &str) -> Option<&'static str> {
        Some(match key {
            _ if key == Role::Backend.key() => "Registry::register_backend",
            _ if key == Role::Drafter.key() => "Registry::register_drafter",
            _ if key == Role::Source.key() => "Registry::register_source",
            _ => return None,
        })
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.names_by_key()).finish()
    }
}

fn insert<B>(
    entries: &mut Vec<Entry<B>>,
    name: &str,
    about: &str,
    feature: Option<&'static str>,
    built: Option<(OptionsType, B)>,
) {
    let entry = Entry { name: name.to_owned(), about: about.to_owned(), feature, built };
    match entries.iter_mut().find(|entry| entry.name == name) {
        Some(old) => *old = entry,
        None => entries.push(entry),
    }
}

fn find<'a, B>(entries: &'a [Entry<B>], role: Role, name: &str) -> Result<&'a B, BuildError> {
    let owned = name.to_owned();
    match entries.iter().find(|entry| entry.name == name) {
        Some(Entry { built: Some((_, build)), .. }) => Ok(build),
        Some(Entry { feature: Some(feature), .. }) => {
            Err(BuildError::NotCompiled { role, name: owned, feature })
        }
        _ => {
            let hint = expected(name, entries.iter().map(|entry| entry.name.as_str()));
            Err(BuildError::Unknown { role, name: owned, hint })
        }
    }
}

fn names<B>(entries: &[Entry<B>]) -> Vec<(String, String)> {
    entries.iter().map(|entry| (entry.name.clone(), entry.about.clone())).collect()
}

fn required_options<'a>(
    role: Role,
    name: &str,
    options: Option<&'a AnyOptions>,
) -> Result<&'a AnyOptions, BuildError> {
    options.ok_or_else(|| BuildError::OtherRegistry { role, name: name.to_owned() })
}

fn downcast_options<'a, O: Options>(
    role: Role,
    name: &str,
    options: &'a AnyOptions,
) -> Result<&'a O, BuildError> {
    options.get().ok_or_else(|| BuildError::OtherRegistry { role, name: name.to_owned() })
}

fn build_failed(role: Role, name: &str, source: BoxError) -> BuildError {
    BuildError::Failed { role, name: name.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::NoOptions;

    #[test]
    fn a_name_that_cannot_be_built_says_why() {
        let mut registry = Registry::builtin();
        registry.register_uncompiled_backend("cuda", "an example", "cuda");
        let message = |name| registry.check_backend(name).unwrap_err().to_string();
        assert!(message("cuda").contains("--features cuda"));
        assert!(message("candel").contains("did you mean `candle`?"));
        assert!(!message("xyzzy").contains("did you mean"));
    }

    #[test]
    fn a_registered_name_replaces_the_one_that_was_there() {
        let mut registry = Registry::builtin();
        let before = registry.backends().count();
        registry.register_backend("ort", "mine", &[], |_: &NoOptions, _, _| Err("broken".into()));
        assert!(registry.check_backend("ort").is_ok());
        assert_eq!(registry.backends().count(), before);
    }
}
