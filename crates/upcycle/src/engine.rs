//! A model ready to answer: its file, its text layer and a backend that has loaded it.

use std::path::{Path, PathBuf};

use upcycle_checkpoint::gguf::{Gguf, GgufError};
use upcycle_core::{CostCurve, Decoder, Request, TokenId, Verifier};
use upcycle_text::{ChatTemplate, Message, Specials, StopStrings, TextError, Tokenizer};

use crate::costs::{cost_key, folder_key, model_key, named};
use crate::hub::local_model;
use crate::{
    AnyDrafter, Budget, BuildError, Config, CostCache, Decode, DrafterChoice, DrafterError, OnProgress,
    Registry, Source,
};

/// The graph in a folder that `upcycle export` wrote.
pub(crate) const GRAPH_FILE: &str = "model.onnx";

/// What says, in a folder of safetensors, which model it is.
pub(crate) const CONFIG_FILE: &str = "config.json";

/// The decoder that a configuration makes.
pub type AnyDecoder = Decoder<Box<dyn Verifier>, AnyDrafter>;

/// A loaded model. [`text`](Self::text) turns prompts into tokens and back, the verifier scores them.
pub struct Engine {
    /// The text layer.
    pub text: Text,
    /// The backend with the model in it.
    pub verifier: Box<dyn Verifier>,
    /// The name of the backend.
    pub backend: String,
    /// What the costs of its passes hold for.
    pub cost_key: String,
    /// The model's file or folder on this machine.
    pub path: PathBuf,
}

/// A model's tokenizer and chat template.
#[derive(Clone, Debug)]
pub struct Text {
    /// The tokenizer.
    pub tokenizer: Tokenizer,
    /// The chat template, if the model has one or the configuration names one.
    pub template: Option<ChatTemplate>,
}

/// How a prompt becomes tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PromptStyle {
    /// As the user's turn of a conversation, through the chat template.
    Chat,
    /// As it stands.
    Raw,
}

/// Why a model could not be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// No model is configured.
    #[error("no model is given; set `model.path` in the configuration, or give --model PATH")]
    NoModel,
    /// The model is named by where it is on the hub, and this program cannot fetch it.
    #[error(
        "a model named hf:… is fetched from the Hugging Face hub, which is not compiled into this program; build it with \
             `cargo build --features hub`, or give a path"
    )]
    NoHub,
    /// The model could not be had from the hub.
    #[cfg(feature = "hub")]
    #[error(transparent)]
    Hub(#[from] upcycle_hub::HubError),
    /// The backend cannot be built, or could not load the model.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The model file is not sound.
    #[error("{path} cannot be used", path = path.display())]
    Gguf {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: GgufError,
    },
    /// The tokenizer or template cannot be used.
    #[error("no {what} from {path}", path = path.display())]
    Text {
        /// What it was to give.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: TextError,
    },
    /// The tokenizer is of another model.
    #[error(
        "the tokenizer has {tokenizer} tokens and the model only {model}; is `model.tokenizer` that of this model?"
    )]
    OtherTokenizer {
        /// Tokens of the tokenizer.
        tokenizer: usize,
        /// Tokens of the model.
        model: usize,
    },
}

/// Why a prompt could not become tokens.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PromptError {
    /// There is no template to put the prompt into.
    #[error(
        "the model has no chat template; set `model.template`, or give --raw to prompt it with plain text"
    )]
    NoTemplate,
    /// The template or the tokenizer refused it.
    #[error(transparent)]
    Text(#[from] TextError),
}

impl Engine {
    /// Loads the configured model into the configured backend.
    ///
    /// # Errors
    /// [`LoadError`]. What can be checked before the weights are read is checked first.
    pub fn load(config: &Config, registry: &Registry, progress: OnProgress<'_>) -> Result<Self, LoadError> {
        let named = config.model().path.as_deref().ok_or(LoadError::NoModel)?;
        registry.check(&config.backend().name)?;
        let path = &*local_model(named, progress)?;
        let gguf = match model_folder(path) {
            Some(_) => None,
            None => {
                // A model in several files is the backend's to refuse.
                let opened = Gguf::open_first(path);
                Some(opened.map_err(|source| LoadError::Gguf { path: path.to_owned(), source })?)
            }
        };
        let text = Text::load(config, path, gguf.as_ref())?;
        let verifier = registry.build(Source { path, gguf: gguf.as_ref(), config }, progress)?;
        let (tokenizer, model) = (text.tokenizer.vocab_size(), verifier.limits().vocab);
        if tokenizer > model {
            return Err(LoadError::OtherTokenizer { tokenizer, model });
        }
        let backend = config.backend().name.clone();
        let model = gguf.as_ref().map_or_else(|| folder_key(path), model_key);
        let cost_key = cost_key(&model, config, &*verifier);
        Ok(Self { text, verifier, backend, cost_key, path: path.to_owned() })
    }

    /// A decoder over this model, and its text layer. Where the budget is `auto`, what passes cost comes from the file
    /// that the configuration names, or from `costs`. Texts that the drafter copies from are read.
    ///
    /// # Errors
    /// [`DrafterError`].
    pub fn into_decoder(
        mut self,
        choice: &DrafterChoice,
        costs: &CostCache,
    ) -> Result<(AnyDecoder, Text), DrafterError> {
        let fingerprint = self.text.tokenizer.fingerprint();
        let saved = self.costs(choice.budget(), costs)?;
        let vocab = self.verifier.limits().vocab;
        let corpus = self.text.corpus(choice, vocab)?;
        let drafter = AnyDrafter::build(choice, vocab, &fingerprint, saved.as_ref(), corpus.as_ref())?;
        let decoder = choice.budget().apply(Decoder::new(self.verifier, drafter), saved);
        Ok((decoder, self.text))
    }

    /// What passes cost, as far as `budget` asks for it.
    ///
    /// # Errors
    /// [`DrafterError::Costs`], [`DrafterError::NoCosts`].
    pub fn costs(&mut self, budget: &Budget, cache: &CostCache) -> Result<Option<CostCurve>, DrafterError> {
        let Budget::Auto { deterministic, costs } = budget else { return Ok(None) };
        let named = costs.as_deref().map(|path| named(path, &self.cost_key)).transpose()?.flatten();
        let curve = named.or_else(|| cache.curve(&self.cost_key, &mut *self.verifier));
        if *deterministic && curve.is_none() {
            return Err(DrafterError::NoCosts);
        }
        Ok(curve)
    }
}

/// The folder of a model that is one, with a tokenizer beside its graph or its safetensors: `path`, or what a graph, a
/// `config.json` or a file of safetensors at `path` lies in. None for any other file.
#[must_use]
pub fn model_folder(path: &Path) -> Option<&Path> {
    if path.is_dir() {
        return Some(path);
    }
    let of_folder = path.file_name().is_some_and(|name| name == CONFIG_FILE)
        || path.extension().is_some_and(|extension| extension == "onnx" || extension == "safetensors");
    let parent = path.parent().filter(|_| of_folder)?;
    Some(if parent == Path::new("") { Path::new(".") } else { parent })
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("backend", &self.backend)
            .field("limits", self.verifier.limits())
            .finish_non_exhaustive()
    }
}

/// The tokenizer of a GGUF file: built here, or, where it is of a kind that is not and the configured backend has one of its
/// own, that one.
fn tokenizer(config: &Config, path: &Path, gguf: &Gguf) -> Result<Tokenizer, TextError> {
    match Tokenizer::from_gguf(gguf) {
        #[cfg(feature = "llama-cpp")]
        Err(TextError::UnsupportedKind { .. } | TextError::UnknownPreTokenizer { .. })
            if config.backend().name == "llama-cpp" =>
        {
            crate::llama_cpp::tokenizer(path)
        }
        built => {
            // Only a backend with a tokenizer asks for them.
            let _ = (config, path);
            built
        }
    }
}

impl Text {
    /// The text layer of the model at `path`, without its weights: from the header of a GGUF file, or, if there is none, from
    /// the files in its folder.
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
        let template = match &files.template {
            Some(file) => Some(
                ChatTemplate::from_file(file, tokenizer.template_tokens())
                    .map_err(from("chat template", file))?,
            ),
            None => match gguf {
                Some(gguf) => ChatTemplate::from_gguf(gguf).map_err(from("chat template", path))?,
                None => ChatTemplate::from_folder(folder, tokenizer.template_tokens())
                    .map_err(from("chat template", folder))?,
            },
        };
        let mut text = Self { tokenizer, template };
        text.set_template_variables(config).map_err(from("chat template", path))?;
        Ok(text)
    }

    /// Tells the template what a configuration has it told, and nothing else.
    ///
    /// # Errors
    /// [`TextError::ReservedVariable`], which no configuration holds; the text layer is then without a template.
    pub fn set_template_variables(&mut self, config: &Config) -> Result<(), TextError> {
        let variables = &config.model().template_variables;
        let told = self.template.take().map(|template| template.with_variables(variables.clone()));
        self.template = told.transpose()?;
        Ok(())
    }

    /// The tokens of a prompt. The token that begins a text is put in front if the model wants one and the prompt
    /// does not have it.
    ///
    /// # Errors
    /// [`PromptError`].
    pub fn encode(&self, prompt: &str, style: PromptStyle) -> Result<Vec<TokenId>, PromptError> {
        match style {
            PromptStyle::Raw => Ok(self.begun(self.tokenizer.encode(prompt, Specials::Parse)?)),
            PromptStyle::Chat => self.encode_conversation(&[Message::user(prompt)]),
        }
    }

    /// The tokens of a conversation, up to where the model is to answer. Names of special tokens in messages are text.
    ///
    /// # Errors
    /// [`PromptError`].
    pub fn encode_conversation(&self, messages: &[Message]) -> Result<Vec<TokenId>, PromptError> {
        let template = self.template.as_ref().ok_or(PromptError::NoTemplate)?;
        Ok(self.begun(self.tokenizer.encode_conversation(template, messages)?))
    }

    /// With the token that begins a text in front, if the model wants one and it is not there.
    fn begun(&self, mut tokens: Vec<TokenId>) -> Vec<TokenId> {
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

    /// What to decode after a prompt, by the configuration: the model's own end tokens and `stop` end the text.
    #[must_use]
    pub fn request(&self, decode: &Decode, stop: &StopStrings) -> Request {
        let stop = (!stop.is_empty()).then(|| stop.clone());
        Request {
            sampling: decode.sampling,
            max_tokens: decode.max_tokens,
            end_of_sequence: self.tokenizer.eos_ids().to_vec(),
            stop: stop.map(|stop| Box::new(move |output: &[TokenId]| stop.ends_with_stop(output)) as Box<_>),
        }
    }
}
