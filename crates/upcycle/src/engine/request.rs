//! What to answer, and how.

use upcycle_core::{LogitBias, Sampling, SamplingConfig, SamplingError, TokenId};
use upcycle_text::Message;

/// What the answer continues.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Prompt {
    /// Through the chat template.
    Chat(Vec<Message>),
    /// As plain text; names of special tokens are encoded as special tokens.
    Text(String),
    /// As it is.
    Tokens(Vec<TokenId>),
}

/// Which requests share the tables of drafts and the cached prefixes.
///
/// Sharing changes a text no more than drafting does: not at all with the backend `cpu`, and within the rounding margin with the
/// others. It changes speed, and with it the statistics of an answer: who shares a group can learn from
/// the speed of an answer that someone else had a similar text. Put users who must not learn this about each other into
/// different groups. The cost model of passes is shared by all groups; it knows numbers of rows and times, but no tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum CacheGroup {
    /// The group of all requests that name none. A snapshot holds its adjacency matrix.
    #[default]
    Shared,
    /// The group of this name. It begins with empty tables.
    Named(String),
    /// A group of this request alone: empty tables, and no cached prefix.
    Private,
}

/// One request to an [`Engine`](super::Engine). What is not set comes from the engine's configuration; without any, decoding is
/// greedy.
///
/// ```
/// use upcycle::{Message, Request};
///
/// let request = Request::chat([Message::user("Why is the sky blue?")]).max_tokens(64).stop(["\n\n"]);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    pub(super) prompt: Prompt,
    pub(super) sampling: Option<Sampling>,
    pub(super) sample_index: u32,
    pub(super) max_tokens: Option<usize>,
    pub(super) stop: Option<Vec<String>>,
    pub(super) ignore_eos: bool,
    pub(super) logit_bias: LogitBias,
    pub(super) logprobs: Option<usize>,
    pub(super) cache_group: CacheGroup,
}

impl Request {
    fn new(prompt: Prompt) -> Self {
        Self {
            prompt,
            sampling: None,
            sample_index: 0,
            max_tokens: None,
            stop: None,
            ignore_eos: false,
            logit_bias: LogitBias::default(),
            logprobs: None,
            cache_group: CacheGroup::Shared,
        }
    }

    /// The answer to a conversation, through the model's chat template.
    pub fn chat(messages: impl IntoIterator<Item = Message>) -> Self {
        Self::new(Prompt::Chat(messages.into_iter().collect()))
    }

    /// The continuation of a plain text. Names of special tokens in it are encoded as special tokens.
    pub fn text(text: impl Into<String>) -> Self {
        Self::new(Prompt::Text(text.into()))
    }

    /// The continuation of these tokens.
    pub fn tokens(tokens: impl Into<Vec<TokenId>>) -> Self {
        Self::new(Prompt::Tokens(tokens.into()))
    }

    /// The most tokens of the answer.
    #[must_use]
    pub fn max_tokens(mut self, max_tokens: usize) -> Self {
        self.max_tokens = Some(max_tokens);
        self
    }

    /// How tokens are chosen.
    ///
    /// # Errors
    /// [`SamplingError`] names the setting that is out of range.
    pub fn sampling(mut self, sampling: SamplingConfig) -> Result<Self, SamplingError> {
        self.sampling = Some(Sampling::new(sampling)?);
        Ok(self)
    }

    /// The number of this sample. Requests that differ in nothing else sample independently.
    #[must_use]
    pub fn sample_index(mut self, index: u32) -> Self {
        self.sample_index = index;
        self
    }

    /// Strings that end the answer. They are not part of it.
    #[must_use]
    pub fn stop<S: Into<String>>(mut self, stop: impl IntoIterator<Item = S>) -> Self {
        self.stop = Some(stop.into_iter().map(Into::into).collect());
        self
    }

    /// Continues after the model's end tokens, up to [`max_tokens`](Self::max_tokens): for measuring.
    #[must_use]
    pub fn ignore_eos(mut self) -> Self {
        self.ignore_eos = true;
        self
    }

    /// Numbers that are added to the logits of some tokens.
    #[must_use]
    pub fn logit_bias(mut self, bias: LogitBias) -> Self {
        self.logit_bias = bias;
        self
    }

    /// Fills [`Piece::logprobs`](super::Piece::logprobs), with the `top` most probable tokens in the place of each token (0: only
    /// the token itself).
    #[must_use]
    pub fn logprobs(mut self, top: usize) -> Self {
        self.logprobs = Some(top);
        self
    }

    /// The requests that this one shares tables and cached prefixes with.
    #[must_use]
    pub fn cache_group(mut self, group: CacheGroup) -> Self {
        self.cache_group = group;
        self
    }
}
