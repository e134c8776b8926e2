//! A loaded model that answers many requests at once.
//!
//! One thread owns the [`Decoder`] and all its sessions. Everything else talks to it through a bounded queue of requests and
//! one channel for each answer. Prompts are encoded and tokens become text in the threads of the callers.

mod answer;
mod builder;
mod channel;
mod error;
mod group_drafter;
mod options;
mod piece;
mod request;
mod spans;
mod status;
mod worker;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use async_channel::{Sender, TrySendError};
use upcycle_core::{
    Decoder, Limits, Request as Generate, SamplingConfig, SnapshotError, TokenId, Verifier, check_bias,
    check_prompt,
};
use upcycle_text::StopStrings;

pub use answer::Answer;
pub use builder::{EngineBuilder, EngineError};
pub use error::RequestError;
pub use options::EngineOptions;
pub use piece::Piece;
pub use request::{CacheGroup, Request};
pub use spans::DraftSpans;
pub use status::{EngineStatus, EngineTotals};

use crate::config::Config;
use crate::costs::CostCache;
use crate::loaded_model::{DecoderError, LoadedModel, PromptStyle, Text, load_snapshot, save_snapshot};
use crate::parts::OnProgress;
use crate::registry::Registry;
use group_drafter::GroupDrafter;
use request::Prompt;
use status::Counters;
use worker::{Command, Job, Worker};

/// The decoder of an engine.
pub(crate) type EngineDecoder = Decoder<Box<dyn Verifier>, GroupDrafter>;

/// A loaded model that answers any number of requests at once, from any thread.
///
/// Every answer is that of the same request alone, whoever else is being answered: bit for bit with the backend `cpu`, and
/// within the rounding margin with the others.
///
/// - Clones share the model. When the last one is dropped, requests that were accepted are still answered.
/// - The queue is bounded. [`generate`](Self::generate) never waits: it refuses a request that does not fit the queue.
/// - Dropping an [`Answer`] cancels it before the next pass.
/// - A failed pass ends the requests at fault. The others go on.
/// - A prompt reuses the KV cache of a common prefix (prefix caching).
///
/// ```
/// use upcycle::{Engine, Message, Request};
///
/// # let path = upcycle_testkit::real_model();
/// let engine = Engine::builder().model(path).build()?;
/// let mut answer = engine.generate(Request::chat([Message::user("Why is the sky blue?")]).max_tokens(64))?;
/// for piece in &mut answer {
///     print!("{}", piece?.text);
/// }
/// println!("{:.2} tokens a step", answer.stats().tokens_per_step());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
}

struct Shared {
    commands: Sender<Command>,
    thread: Mutex<Option<JoinHandle<()>>>,
    text: Text,
    config: Config,
    limits: Limits,
    backend: String,
    model_name: String,
    sources: Vec<&'static str>,
    suggested: SamplingConfig,
    counters: Arc<Counters>,
}

impl Engine {
    /// An engine from a few settings; everything else has its default.
    #[must_use]
    pub fn builder() -> EngineBuilder {
        EngineBuilder::new(Registry::builtin())
    }

    /// Loads the configured model, with the parts of [`Registry::builtin`], and starts the engine.
    ///
    /// # Errors
    /// [`EngineError`].
    pub fn from_config(config: &Config) -> Result<Self, EngineError> {
        Self::load(config, &Registry::builtin(), &CostCache::user_cache(), &mut |_| {})
    }

    /// Loads the configured model and starts the engine.
    ///
    /// # Errors
    /// [`EngineError`].
    pub fn load(
        config: &Config,
        registry: &Registry,
        costs: &CostCache,
        progress: OnProgress<'_>,
    ) -> Result<Self, EngineError> {
        Self::start(LoadedModel::load(config, registry, progress)?, config, registry, costs)
    }

    /// Starts an engine over a loaded model. The configured snapshot is read if it exists.
    ///
    /// # Errors
    /// [`EngineError`].
    pub fn start(
        mut model: LoadedModel,
        config: &Config,
        registry: &Registry,
        costs: &CostCache,
    ) -> Result<Self, EngineError> {
        let drafting = config.drafter();
        let saved = model.costs(drafting, costs)?;
        let limits = model.verifier.limits().clone();
        let corpus = model.text.corpus(drafting, limits.vocab).map_err(DecoderError::from)?;
        let make = {
            let (drafting, registry, saved) = (drafting.clone(), registry.clone(), saved.clone());
            let vocab = limits.vocab;
            move || drafting.build(&registry, vocab, saved.as_ref(), corpus.as_ref())
        };
        let mut shared = make().map_err(DecoderError::from)?;
        load_snapshot(&mut *shared, drafting, &model.text.tokenizer.fingerprint())?;
        let sources = shared.sources();
        let LoadedModel { text, sampling, verifier, backend, path, .. } = model;
        let suggested = config.decode().sampling_for(&sampling);
        let name = if path.is_dir() { path.file_name() } else { path.file_stem() };
        let model_name = name.unwrap_or_default().to_string_lossy().into_owned();
        let drafter = GroupDrafter::new(Box::new(make), shared);
        let decoder = drafting.apply_budget(Decoder::new(verifier, drafter), saved);
        let options = config.engine().clone();
        let decoder = decoder.with_max_inter_token(options.max_inter_token());

        let counters = Arc::new(Counters::default());
        let (commands, received) = async_channel::bounded(options.max_queue);
        let worker = Worker::new(decoder, received, options, Arc::clone(&counters));
        let thread = thread::Builder::new().name("upcycle-engine".to_owned()).spawn(|| worker.run());
        let thread = Mutex::new(Some(thread.map_err(EngineError::Thread)?));
        let config = config.clone();
        let shared = Shared {
            commands,
            thread,
            text,
            config,
            limits,
            backend,
            model_name,
            sources,
            suggested,
            counters,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Begins to answer a request. Returns at once; the answer comes as the model emits it.
    ///
    /// # Errors
    /// [`RequestError`] for a prompt that cannot be encoded or does not fit, for a bias of a token that the model lacks, and for a
    /// full queue.
    pub fn generate(&self, request: Request) -> Result<Answer, RequestError> {
        let Shared { text, config, limits, commands, .. } = &*self.shared;
        let decode = config.decode();
        let prompt = self.encode(&request.prompt)?;
        check_prompt(&prompt, limits)?;
        check_bias(&request.logit_bias, limits)?;
        let stop = match &request.stop {
            Some(stop) => StopStrings::new(&text.tokenizer, stop.iter().cloned())?,
            None => text.stop_strings(decode)?,
        };
        let generate = self.generate_request(&request, &stop);
        let (sender, receiver) = channel::channel();
        let answer = Answer::new(receiver, prompt.len(), text.tokenizer.detokenizer(), stop.filter());
        let job = Job { prompt, generate, group: request.cache_group, answer: sender };
        match commands.try_send(Command::Answer(Box::new(job))) {
            Ok(()) => Ok(answer),
            Err(TrySendError::Full(_)) => Err(RequestError::QueueFull { waiting: commands.len() }),
            Err(TrySendError::Closed(_)) => Err(RequestError::ShutDown),
        }
    }

    fn generate_request(&self, request: &Request, stop: &StopStrings) -> Generate {
        let decode = self.shared.config.decode();
        let mut generate = self.shared.text.request(decode, stop);
        generate.sampling =
            request.sampling.unwrap_or(decode.sampling).with_sample_index(request.sample_index);
        generate.max_tokens = request.max_tokens.unwrap_or(decode.max_tokens);
        generate.logit_bias = request.logit_bias.clone();
        generate.logprobs = request.logprobs;
        if request.ignore_eos {
            generate.end_of_sequence.clear();
        }
        generate
    }

    fn encode(&self, prompt: &Prompt) -> Result<Vec<TokenId>, RequestError> {
        Ok(match prompt {
            Prompt::Chat(messages) => self.shared.text.encode_conversation(messages)?,
            Prompt::Text(text) => self.shared.text.encode(text, PromptStyle::Raw)?,
            Prompt::Tokens(tokens) => tokens.clone(),
        })
    }

    /// The tokens of a request's prompt.
    ///
    /// # Errors
    /// [`RequestError::Prompt`].
    pub fn tokenize(&self, request: &Request) -> Result<Vec<TokenId>, RequestError> {
        self.encode(&request.prompt)
    }

    /// The model's tokenizer and chat template.
    #[must_use]
    pub fn text(&self) -> &Text {
        &self.shared.text
    }

    /// The limits of the backend with this model.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.shared.limits
    }

    /// How to choose tokens for users who do not say: as configured, otherwise as the model's authors suggest, otherwise at
    /// temperature 1. [`generate`](Self::generate) does not use it: give it to [`Request::sampling`].
    #[must_use]
    pub fn suggested_sampling(&self) -> SamplingConfig {
        self.shared.suggested
    }

    /// The name of the model's file or folder, without its extension.
    #[must_use]
    pub fn model_name(&self) -> &str {
        &self.shared.model_name
    }

    /// The names of the drafter's sources; empty for a drafter without separate sources.
    #[must_use]
    pub fn sources(&self) -> &[&'static str] {
        &self.shared.sources
    }

    /// The name of the backend.
    #[must_use]
    pub fn backend(&self) -> &str {
        &self.shared.backend
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.shared.config
    }

    /// The load, and totals over all answers.
    #[must_use]
    pub fn status(&self) -> EngineStatus {
        self.shared.counters.status(self.shared.commands.len())
    }

    /// Calls `call` with the decoder, between two passes. `None` after a shutdown.
    pub(crate) fn with_decoder<T: Send + 'static>(
        &self,
        call: impl FnOnce(&mut EngineDecoder) -> T + Send + 'static,
    ) -> Option<T> {
        let (sender, result) = async_channel::bounded(1);
        let call = Box::new(move |decoder: &mut EngineDecoder| drop(sender.try_send(call(decoder))));
        self.shared.commands.send_blocking(Command::Call(call)).ok()?;
        result.recv_blocking().ok()
    }

    /// Writes the adjacency matrix of the shared group to the configured snapshot, if there is one. Waits for the current pass.
    ///
    /// # Errors
    /// [`SnapshotError`]; an older snapshot is then unchanged.
    pub fn save_snapshot(&self) -> Result<(), SnapshotError> {
        let config = self.shared.config.drafter().clone();
        let fingerprint = self.shared.text.tokenizer.fingerprint();
        let saved = self.with_decoder(move |decoder| save_snapshot(decoder.drafter(), &config, &fingerprint));
        saved.unwrap_or(Ok(()))
    }

    /// Takes no more requests, and waits until those that were accepted are answered. The second call does nothing.
    pub fn shut_down(&self) {
        self.shared.commands.close();
        let thread = self.shared.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the engine's thread panicked; its requests were not answered");
        }
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("backend", &self.shared.backend)
            .field("limits", &self.shared.limits)
            .finish_non_exhaustive()
    }
}
