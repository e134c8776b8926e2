//! A model that is ready to answer: its tokenizer and chat template, and a backend that has loaded it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use upcycle_checkpoint::gguf::Gguf;
use upcycle_core::mixed::Corpus;
use upcycle_core::snapshot::Fingerprint;
use upcycle_core::{CostCurve, Decoder, Drafter, Request, SnapshotError, TokenId, Verifier, file};
use upcycle_text::{ChatTemplate, Message, ModelSampling, Specials, StopStrings, TextError, Tokenizer};

use crate::config::{Budget, Config, Decode, DrafterConfig};
use crate::corpus::{CorpusError, corpus};
use crate::costs::{CostCache, CostFileError, cost_key, folder_key, model_key, named};
use crate::hub::local_model;
use crate::load_error::LoadError;
use crate::model_files::model_folder;
use crate::parts::{BuildError, ModelSource, OnProgress};
use crate::registry::Registry;

/// The backend that reads GGUF files by itself.
const LLAMA_CPP: &str = "llama-cpp";

/// The decoder that [`LoadedModel::into_decoder`] returns.
pub type AnyDecoder = Decoder<Box<dyn Verifier>, Box<dyn Drafter>>;

/// A loaded model. [`text`](Self::text) turns prompts into tokens and back, the verifier scores them.
pub struct LoadedModel {
    /// The tokenizer and the chat template.
    pub text: Text,
    /// How the model's authors suggest to choose tokens.
    pub sampling: ModelSampling,
    /// The backend that has loaded the model.
    pub verifier: Box<dyn Verifier>,
    /// The name of the backend.
    pub backend: String,
    /// The key of its measured costs: model, backend, options and processor.
    pub cost_key: String,
    /// The model's file or folder on this machine.
    pub path: PathBuf,
}

/// A model's tokenizer and chat template.
#[derive(Clone, Debug)]
pub struct Text {
    /// The tokenizer.
    pub tokenizer: Tokenizer,
    /// The chat template, if the model has one or the configuration names one, and it compiles.
    pub template: Option<ChatTemplate>,
    /// Why the chat template does not compile.
    pub template_error: Option<Arc<TextError>>,
}

/// How a prompt becomes tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PromptStyle {
    /// As the user's message of a conversation, through the chat template.
    Chat,
    /// As plain text.
    Raw,
}

/// Why a decoder could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecoderError {
    /// The drafter cannot be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The snapshot exists and cannot be used.
    #[error("the snapshot {path} cannot be used; remove it to start with empty tables, or name another file", path = path.display())]
    Snapshot {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: SnapshotError,
    },
    /// The cost file cannot be used.
    #[error("{path} is not a cost file as `upcycle bench cost` writes it", path = path.display())]
    Costs {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: CostFileError,
    },
    /// `drafter.deterministic` needs saved costs, and there are none.
    #[error(
        "drafter.deterministic needs the costs of passes, and measuring them failed: name a file written by `upcycle bench \
         cost` as drafter.cost_file, or set drafter.budget to a number"
    )]
    NoCosts,
    /// The folder of texts cannot be used.
    #[error(transparent)]
    Corpus(#[from] CorpusError),
}

/// Why a prompt could not be encoded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PromptError {
    /// The model has no chat template.
    #[error(
        "the model has no chat template; set `model.template`, or give --raw to prompt it with plain text"
    )]
    NoTemplate,
    /// The chat template does not compile.
    #[error(
        "{0}; set `model.template` to another template, or give --raw to prompt the model with plain text"
    )]
    Template(Arc<TextError>),
    /// The template or the tokenizer refused the prompt.
    #[error(transparent)]
    Text(#[from] TextError),
}

impl LoadedModel {
    /// Loads the configured model into the configured backend.
    ///
    /// # Errors
    /// [`LoadError`]. Everything that needs no weights is checked before they are read.
    pub fn load(config: &Config, registry: &Registry, progress: OnProgress<'_>) -> Result<Self, LoadError> {
        let named = config.model().path.as_deref().ok_or(LoadError::NoModel)?;
        registry.check_backend(&config.backend().name)?;
        let path = &*local_model(named, progress)?;
        let gguf = match model_folder(path) {
            Some(_) => None,
            None => Some(header(config, path)?),
        };
        let text = Text::load(config, path, gguf.as_ref())?;
        let sampling = match &gguf {
            Some(gguf) => ModelSampling::from_gguf(gguf),
            None => ModelSampling::from_folder(path),
        };
        let what = "suggested sampling settings";
        let sampling = sampling.map_err(|source| LoadError::Text { what, path: path.to_owned(), source })?;
        let model = ModelSource { path, gguf: gguf.as_ref() };
        let backend = config.backend();
        let verifier =
            registry.build_backend(&backend.name, backend.options(&backend.name), model, progress)?;
        let (tokenizer, model) = (text.tokenizer.vocab_size(), verifier.limits().vocab);
        if tokenizer > model {
            return Err(LoadError::OtherTokenizer { tokenizer, model });
        }
        let model = gguf.as_ref().map_or_else(|| folder_key(path), model_key);
        let cost_key = cost_key(&model, config, &*verifier);
        Ok(Self { text, sampling, verifier, backend: backend.name.clone(), cost_key, path: path.to_owned() })
    }

    /// A decoder over this model with the configured drafter, and its [`Text`]. With an automatic budget, the costs of passes
    /// come from the configured file, or from `costs`. The configured snapshot is loaded if it exists.
    ///
    /// # Errors
    /// [`DecoderError`].
    pub fn into_decoder(
        mut self,
        config: &DrafterConfig,
        registry: &Registry,
        costs: &CostCache,
    ) -> Result<(AnyDecoder, Text), DecoderError> {
        let saved = self.costs(config, costs)?;
        let vocab = self.verifier.limits().vocab;
        let corpus = self.text.corpus(config, vocab)?;
        let mut drafter = config.build(registry, vocab, saved.as_ref(), corpus.as_ref())?;
        load_snapshot(&mut *drafter, config, &self.text.tokenizer.fingerprint())?;
        let decoder = config.apply_budget(Decoder::new(self.verifier, drafter), saved);
        Ok((decoder, self.text))
    }

    /// Whether [`into_decoder`](Self::into_decoder) times passes, which takes about a second.
    #[must_use]
    pub fn times_passes(&self, config: &DrafterConfig, cache: &CostCache) -> bool {
        config.budget() == Budget::Auto && config.cost_file().is_none() && !cache.has(&self.cost_key)
    }

    /// The costs of passes; `None` if the budget does not need them.
    ///
    /// # Errors
    /// [`DecoderError::Costs`], [`DecoderError::NoCosts`].
    pub fn costs(
        &mut self,
        config: &DrafterConfig,
        cache: &CostCache,
    ) -> Result<Option<CostCurve>, DecoderError> {
        if config.budget() != Budget::Auto {
            return Ok(None);
        }
        let read = |path: &Path| {
            let failed = |source| DecoderError::Costs { path: path.to_owned(), source };
            named(path, &self.cost_key).map_err(failed)
        };
        let saved = config.cost_file().map(read).transpose()?.flatten();
        let curve = saved.or_else(|| cache.curve(&self.cost_key, &mut *self.verifier));
        if config.deterministic() && curve.is_none() {
            return Err(DecoderError::NoCosts);
        }
        Ok(curve)
    }
}

/// Whether there is a snapshot to read. An empty file is none: a mount of a single file needs one to begin with.
#[must_use]
pub fn snapshot_exists(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| !found.is_file() || found.len() > 0)
}

/// Reads the configured snapshot into a drafter, if the file exists.
///
/// # Errors
/// [`DecoderError::Snapshot`] for a file that is damaged or belongs to another model.
pub fn load_snapshot(
    drafter: &mut dyn Drafter,
    config: &DrafterConfig,
    fingerprint: &Fingerprint,
) -> Result<(), DecoderError> {
    let Some(path) = config.snapshot() else { return Ok(()) };
    if !snapshot_exists(path) {
        match config.written_snapshot() {
            Some(_) => {
                tracing::info!(path = %path.display(), "no snapshot yet: starting with empty tables");
            }
            None => {
                tracing::warn!(path = %path.display(), "there is no snapshot to read: starting with empty tables");
            }
        }
        return Ok(());
    }
    let failed = |source| DecoderError::Snapshot { path: path.to_owned(), source };
    if drafter.load(path, fingerprint).map_err(failed)? {
        let rows = drafter.footprint().filled_matrix_rows;
        tracing::info!(path = %path.display(), rows, "tables loaded from the snapshot");
    }
    Ok(())
}

/// Checks, before an answer, that [`save_snapshot`] will be able to write the configured snapshot.
///
/// # Errors
/// [`SnapshotError::Io`] if it is to be written, and its place does not allow it.
pub fn check_snapshot(config: &DrafterConfig) -> Result<(), SnapshotError> {
    let Some(path) = config.written_snapshot() else { return Ok(()) };
    file::check_replaceable(path).map_err(|source| SnapshotError::Io {
        action: "write",
        path: path.to_owned(),
        source,
    })
}

/// Writes what a drafter learned to the configured snapshot, if there is one and `drafter.snapshot_mode` is `read-write`.
///
/// # Errors
/// [`SnapshotError`]; an older snapshot is then unchanged.
pub fn save_snapshot(
    drafter: &dyn Drafter,
    config: &DrafterConfig,
    fingerprint: &Fingerprint,
) -> Result<(), SnapshotError> {
    let Some(path) = config.written_snapshot() else { return Ok(()) };
    if drafter.save(path, fingerprint)? {
        let rows = drafter.footprint().filled_matrix_rows;
        tracing::info!(path = %path.display(), rows, "matrix written to its snapshot");
    }
    Ok(())
}

impl std::fmt::Debug for LoadedModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoadedModel")
            .field("backend", &self.backend)
            .field("limits", self.verifier.limits())
            .finish_non_exhaustive()
    }
}

/// The header of a GGUF file: of the first part if the model is in several files, because the backend decides whether it takes
/// those. llama.cpp reads files by itself, so for it the reader passes on what it does not understand.
fn header(config: &Config, path: &Path) -> Result<Gguf, LoadError> {
    let failed = |source| LoadError::Gguf { path: path.to_owned(), source };
    if config.backend().name != LLAMA_CPP {
        return Gguf::open_first(path).map_err(failed);
    }
    let (gguf, faults) = Gguf::open_lenient(path).map_err(failed)?;
    for fault in faults {
        tracing::warn!("{} is left to llama.cpp: {fault}", path.display());
    }
    Ok(gguf)
}

/// The tokenizer of a GGUF file. With the backend llama-cpp, llama.cpp's own tokenizer stands in for one that `upcycle-text`
/// cannot build.
fn tokenizer(config: &Config, path: &Path, gguf: &Gguf) -> Result<Tokenizer, TextError> {
    let built = Tokenizer::from_gguf(gguf);
    #[cfg(feature = "llama-cpp")]
    if config.backend().name == LLAMA_CPP
        && let Err(own) = &built
    {
        // A kind that `upcycle-text` does not know is no fault of the file.
        let expected =
            matches!(own, TextError::UnsupportedKind { .. } | TextError::UnknownPreTokenizer { .. });
        return match crate::backends::llama_cpp::tokenizer(path) {
            Ok(tokenizer) => {
                if !expected {
                    tracing::warn!("llama.cpp's own tokenizer is used, because {own}");
                }
                Ok(tokenizer)
            }
            Err(theirs) if expected => Err(theirs),
            Err(theirs) => {
                Err(TextError::Tokenizer { reason: format!("{own}; and with llama.cpp: {theirs}") })
            }
        };
    }
    // Used only with a backend that has a tokenizer.
    let _ = (config, path);
    built
}

impl Text {
    /// The tokenizer and chat template of the model at `path`, without its weights: from the header of a GGUF file, otherwise
    /// from the files of its folder.
    ///
    /// # Errors
    /// [`LoadError::Text`].
    pub fn load(config: &Config, path: &Path, gguf: Option<&Gguf>) -> Result<Self, LoadError> {
        let files = config.model();
        let folder = model_folder(path).unwrap_or(path);
        let from = |what, path: &Path| {
            let path = path.to_owned();
            move |source| LoadError::Text { what, path, source }
        };
        let tokenizer = match &files.tokenizer {
            Some(file) => Tokenizer::from_file(file).map_err(from("tokenizer", file))?,
            None => match gguf {
                Some(gguf) => tokenizer(config, path, gguf).map_err(from("tokenizer", path))?,
                None => {
                    let file = folder.join("tokenizer.json");
                    Tokenizer::from_file(&file).map_err(from("tokenizer", &file))?
                }
            },
        };
        let tokens = tokenizer.template_tokens();
        let (compiled, place) = match (&files.template, gguf) {
            (Some(file), _) => (ChatTemplate::from_file(file, tokens).map(Some), &**file),
            (None, Some(gguf)) => (ChatTemplate::from_gguf(gguf, tokens), path),
            (None, None) => (ChatTemplate::from_folder(folder, tokens), folder),
        };
        // Plain prompts need no template, so one that does not compile is an error only where it is used.
        let (template, template_error) = match compiled {
            Ok(template) => (template, None),
            Err(error @ (TextError::TemplateSyntax { .. } | TextError::TemplateChoice { .. })) => {
                (None, Some(Arc::new(error)))
            }
            Err(error) => return Err(from("chat template", place)(error)),
        };
        let mut text = Self { tokenizer, template, template_error };
        text.set_template_variables(config).map_err(from("chat template", path))?;
        Ok(text)
    }

    /// The chat template.
    ///
    /// # Errors
    /// [`PromptError::NoTemplate`], [`PromptError::Template`].
    pub fn template(&self) -> Result<&ChatTemplate, PromptError> {
        self.template.as_ref().ok_or_else(|| match &self.template_error {
            Some(error) => PromptError::Template(Arc::clone(error)),
            None => PromptError::NoTemplate,
        })
    }

    /// Replaces the template's variables by those of a configuration.
    ///
    /// # Errors
    /// [`TextError::ReservedVariable`]. It cannot occur with a checked configuration.
    pub fn set_template_variables(&mut self, config: &Config) -> Result<(), TextError> {
        let Some(template) = self.template.clone() else { return Ok(()) };
        match template.with_variables(config.model().template_variables.clone()) {
            Ok(template) => self.template = Some(template),
            Err(error @ TextError::TemplateSyntax { .. }) => {
                (self.template, self.template_error) = (None, Some(Arc::new(error)));
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// The corpus of `drafter.corpus_dir`, for a model of `vocab` tokens; `None` if it is not set.
    ///
    /// # Errors
    /// [`CorpusError`].
    pub fn corpus(&self, config: &DrafterConfig, vocab: usize) -> Result<Option<Arc<Corpus>>, CorpusError> {
        let Some(folder) = config.corpus_dir() else { return Ok(None) };
        Ok(Some(Arc::new(corpus(folder, &self.tokenizer, vocab)?)))
    }

    /// The tokens of a prompt, with the beginning-of-text token if the model wants one.
    ///
    /// # Errors
    /// [`PromptError`].
    pub fn encode(&self, prompt: &str, style: PromptStyle) -> Result<Vec<TokenId>, PromptError> {
        match style {
            PromptStyle::Raw => Ok(self.with_bos(self.tokenizer.encode(prompt, Specials::Parse)?)),
            PromptStyle::Chat => self.encode_conversation(&[Message::user(prompt)]),
        }
    }

    /// The tokens of a conversation, up to the beginning of the model's answer. Names of special tokens in messages are plain
    /// text.
    ///
    /// # Errors
    /// [`PromptError`].
    pub fn encode_conversation(&self, messages: &[Message]) -> Result<Vec<TokenId>, PromptError> {
        Ok(self.with_bos(self.tokenizer.encode_conversation(self.template()?, messages)?))
    }

    /// Adds the beginning-of-text token if the model wants one and it is missing.
    fn with_bos(&self, mut tokens: Vec<TokenId>) -> Vec<TokenId> {
        if let Some(bos) = self.tokenizer.bos().filter(|_| self.tokenizer.add_bos())
            && tokens.first() != Some(&bos)
        {
            tokens.insert(0, bos);
        }
        tokens
    }

    /// The stop strings of a configuration, for this tokenizer.
    ///
    /// # Errors
    /// [`TextError`].
    pub fn stop_strings(&self, decode: &Decode) -> Result<StopStrings, TextError> {
        StopStrings::new(&self.tokenizer, decode.stop.iter().cloned())
    }

    /// The configured request. The model's own end tokens and `stop` end the text.
    #[must_use]
    pub fn request(&self, decode: &Decode, stop: &StopStrings) -> Request {
        let stop = (!stop.is_empty()).then(|| stop.clone());
        Request {
            sampling: decode.sampling,
            end_of_sequence: self.tokenizer.eos_ids().to_vec(),
            stop: stop.map(|stop| Box::new(move |output: &[TokenId]| stop.ends_with_stop(output)) as Box<_>),
            ..Request::greedy(decode.max_tokens)
        }
    }
}
