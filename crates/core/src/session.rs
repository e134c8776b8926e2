//! One sequence being decoded: the request, the text so far, the statistics.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use crate::accept::AcceptedPath;
use crate::drafter::Phase;
use crate::logit_bias::LogitBias;
use crate::logprobs::TokenLogprobs;
use crate::sampling::{Sampler, Sampling};
use crate::stats::Stats;
use crate::token::{SeqId, TokenId};
use crate::tree::DraftTree;

/// Ends a text early: a stop string, a grammar, a caller's own rule.
///
/// It is called for each output token, in order, and keeps no state. So nothing has to be rolled back when a draft is
/// rejected.
pub trait StopRule: Send {
    /// Whether the last token of `output` ends the text. That token is still emitted; `output` is never empty.
    fn stops(&self, output: &[TokenId]) -> bool;
}

impl<F: Fn(&[TokenId]) -> bool + Send> StopRule for F {
    fn stops(&self, output: &[TokenId]) -> bool {
        self(output)
    }
}

/// What to decode after a prompt.
pub struct Request {
    /// How to choose tokens.
    pub sampling: Sampling,
    /// How many tokens to emit at most.
    pub max_tokens: usize,
    /// Tokens that end the text. The one that ends it is emitted as the last.
    pub end_of_sequence: Vec<TokenId>,
    /// A further rule that ends the text.
    pub stop: Option<Box<dyn StopRule>>,
    /// Numbers that are added to the logits of some tokens.
    pub logit_bias: LogitBias,
    /// Whether [`Session::new_logprobs`] is filled, and with how many of the most probable tokens. Each emitted token then needs
    /// the full row of its logits.
    pub logprobs: Option<usize>,
}

impl Request {
    /// Greedy decoding of `max_tokens` tokens, without stops.
    #[must_use]
    pub fn greedy(max_tokens: usize) -> Self {
        Self {
            sampling: Sampling::greedy(),
            max_tokens,
            end_of_sequence: Vec::new(),
            stop: None,
            logit_bias: LogitBias::default(),
            logprobs: None,
        }
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("sampling", &self.sampling)
            .field("max_tokens", &self.max_tokens)
            .field("end_of_sequence", &self.end_of_sequence)
            .field("stop", &self.stop.is_some())
            .field("logit_bias", &self.logit_bias)
            .field("logprobs", &self.logprobs)
            .finish()
    }
}

/// Why generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FinishReason {
    /// The model emitted one of the request's end-of-sequence tokens.
    EndOfSequence,
    /// The request's stop rule fired, for example at a stop string.
    StopString,
    /// The request's token limit was reached.
    MaxTokens,
    /// The context cannot hold another token.
    ContextFull,
    /// [`Session::cancel`] was called.
    Cancelled,
}

impl FinishReason {
    /// Its name in reports: `end-of-sequence`, `stop-string`, `max-tokens`, `context-full`, `cancelled`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            FinishReason::EndOfSequence => "end-of-sequence",
            FinishReason::StopString => "stop-string",
            FinishReason::MaxTokens => "max-tokens",
            FinishReason::ContextFull => "context-full",
            FinishReason::Cancelled => "cancelled",
        }
    }
}

impl fmt::Display for FinishReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Ids of dropped sessions, on their way to the decoder that opened them.
pub(crate) type DroppedSequences = Arc<Mutex<Vec<SeqId>>>;

/// A sequence that a [`Decoder`](crate::Decoder) advances: prompt, output, request and statistics.
///
/// # Design
///
/// The caller owns a session; the decoder keeps no list of sessions. So the text of a session can be read while the decoder
/// works on others, and the caller chooses the sessions of each step.
///
/// Dropping a session ends its request. The decoder closes the sequence before its next step or open.
///
/// # Example
///
/// ```
/// use upcycle_core::{Decoder, NullDrafter, Request};
/// use upcycle_testkit::NaiveVerifier;
///
/// let mut decoder = Decoder::new(NaiveVerifier::new(64, 1).with_max_seqs(1), NullDrafter);
/// let mut session = decoder.open(&[1, 2, 3], Request::greedy(5))?;
/// while session.finish_reason().is_none() {
///     decoder.step_one(&mut session)?;
///     print!("{:?}", session.new_tokens());
/// }
/// assert_eq!(session.output().len(), 5);
///
/// // The verifier holds one sequence; dropping the session makes it available again.
/// drop(session);
/// let session = decoder.open(&[4], Request::greedy(1))?;
/// # Ok::<(), upcycle_core::DecodeError>(())
/// ```
pub struct Session {
    pub(crate) seq: SeqId,
    pub(crate) tokens: Vec<TokenId>,
    pub(crate) prompt_len: usize,
    /// Tokens whose KV is committed: while decoding, all but the last.
    pub(crate) committed: usize,
    /// The position of the first token that the last step emitted.
    pub(crate) new_from: usize,
    pub(crate) request: Request,
    /// `None` for greedy decoding, which needs no full row of logits.
    pub(crate) sampler: Option<Sampler>,
    pub(crate) tree: DraftTree,
    /// The tree before an automatic budget pruned it; unused with a fixed budget.
    pub(crate) unpruned_tree: DraftTree,
    pub(crate) accepted_path: AcceptedPath,
    /// Of the tokens that were sampled last, if the request asks for them.
    pub(crate) logprobs: Vec<TokenLogprobs>,
    pub(crate) finish: Option<FinishReason>,
    pub(crate) stats: Stats,
    /// The number of the last pass that it took part in.
    pub(crate) last_pass: u64,
    dropped: DroppedSequences,
}

/// What to keep and emit of a sampled path, once the verifier has committed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PathCut {
    /// How many nodes of the path keep their KV.
    pub(crate) kept_nodes: usize,
    /// How many sampled tokens are emitted.
    pub(crate) emitted_tokens: usize,
    pub(crate) finish: Option<FinishReason>,
}

impl Session {
    pub(crate) fn new(
        seq: SeqId,
        prompt: &[TokenId],
        request: Request,
        max_reserved: usize,
        dropped: DroppedSequences,
    ) -> Self {
        let output = request.max_tokens.min(max_reserved.saturating_sub(prompt.len()));
        let mut session = Self {
            seq,
            // A path may exceed the limit of tokens before it is shortened.
            tokens: Vec::with_capacity(prompt.len() + output + 64),
            prompt_len: 0,
            committed: 0,
            new_from: 0,
            sampler: None,
            request,
            tree: DraftTree::new(),
            unpruned_tree: DraftTree::new(),
            accepted_path: AcceptedPath::default(),
            logprobs: Vec::new(),
            finish: None,
            stats: Stats {
                emitted_per_step: Vec::with_capacity(output),
                nodes_per_step: Vec::with_capacity(output),
                ..Stats::default()
            },
            last_pass: 0,
            dropped,
        };
        session.reset(prompt);
        session
    }

    /// Starts on a new prompt. The caller has set `committed` to the number of its tokens that are cached.
    pub(crate) fn reset(&mut self, prompt: &[TokenId]) {
        self.tokens.clear();
        self.tokens.extend_from_slice(prompt);
        self.prompt_len = prompt.len();
        self.new_from = prompt.len();
        let Request { sampling, logit_bias, .. } = &self.request;
        let needs_row = !sampling.needs_only_best() || !logit_bias.is_empty();
        self.sampler = needs_row.then(|| Sampler::new(*sampling).with_bias(logit_bias.clone()));
        self.finish = (self.request.max_tokens == 0).then_some(FinishReason::MaxTokens);
    }

    /// Its id at the verifier.
    #[must_use]
    pub fn id(&self) -> SeqId {
        self.seq
    }

    /// Prompt and output.
    #[must_use]
    pub fn tokens(&self) -> &[TokenId] {
        &self.tokens
    }

    /// How many of [`tokens`](Self::tokens) are the prompt.
    #[must_use]
    pub fn prompt_len(&self) -> usize {
        self.prompt_len
    }

    /// All tokens emitted so far.
    #[must_use]
    pub fn output(&self) -> &[TokenId] {
        &self.tokens[self.prompt_len..]
    }

    /// The tokens that the last step emitted. Empty during prefill, and after a step that did not advance
    /// this session.
    #[must_use]
    pub fn new_tokens(&self) -> &[TokenId] {
        &self.tokens[self.new_from..]
    }

    /// The log probabilities of [`new_tokens`](Self::new_tokens), one for each, if [`Request::logprobs`] asks for them. Otherwise
    /// empty.
    #[must_use]
    pub fn new_logprobs(&self) -> &[TokenLogprobs] {
        &self.logprobs[..self.logprobs.len().min(self.new_tokens().len())]
    }

    /// Tokens of the prompt that are in the KV cache.
    #[must_use]
    pub fn prefilled(&self) -> usize {
        self.committed.min(self.prompt_len)
    }

    /// The tokens that are in the KV cache, a prefix of [`tokens`](Self::tokens).
    #[must_use]
    pub fn cached(&self) -> &[TokenId] {
        &self.tokens[..self.committed]
    }

    /// The length of the common prefix of the cached tokens and `prompt`, without the last token of `prompt`. That token is always
    /// scored, because its row gives the first token of the answer.
    pub(crate) fn cached_prefix(&self, prompt: &[TokenId]) -> usize {
        let Some((_, before)) = prompt.split_last() else { return 0 };
        self.cached().iter().zip(before).take_while(|(a, b)| a == b).count()
    }

    /// Why generation ended; `None` while decoding continues.
    #[must_use]
    pub fn finish_reason(&self) -> Option<FinishReason> {
        self.finish
    }

    /// Ends the text before its next step. Emitted tokens stay.
    pub fn cancel(&mut self) {
        self.finish.get_or_insert(FinishReason::Cancelled);
    }

    /// The tree of its last pass, for display.
    #[must_use]
    pub fn tree(&self) -> &DraftTree {
        &self.tree
    }

    /// The accepted path of its last pass, before a stop or a limit shortened it.
    #[must_use]
    pub fn accepted_path(&self) -> &AcceptedPath {
        &self.accepted_path
    }

    /// Its statistics so far.
    #[must_use]
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    pub(crate) fn phase(&self) -> Phase {
        if self.committed < self.prompt_len { Phase::Prefill } else { Phase::Decode }
    }

    /// Decides how much of the accepted path is kept and emitted. `self.tokens` ends with all of its sampled tokens.
    pub(crate) fn cut_path(&self) -> PathCut {
        let sampled = self.accepted_path.sampled.len();
        let before = self.tokens.len() - sampled;
        let finish_at = |emit: usize| {
            let output = &self.tokens[self.prompt_len..before + emit];
            let last = output.last()?;
            if self.request.end_of_sequence.contains(last) {
                Some(FinishReason::EndOfSequence)
            } else if self.request.stop.as_ref().is_some_and(|stop| stop.stops(output)) {
                Some(FinishReason::StopString)
            } else if output.len() >= self.request.max_tokens {
                Some(FinishReason::MaxTokens)
            } else {
                None
            }
        };
        let end = (1..=sampled).find_map(|emit| Some((emit, finish_at(emit)?)));
        let (emit, finish) = end.map_or((sampled, None), |(emit, finish)| (emit, Some(finish)));
        let keep = match self.phase() {
            Phase::Prefill => self.accepted_path.nodes.len(),
            Phase::Decode => emit,
        };
        PathCut { kept_nodes: keep, emitted_tokens: emit, finish }
    }

    /// Applies a pass that the verifier has committed.
    pub(crate) fn advance(&mut self, cut: PathCut, max_context: usize) {
        let PathCut { kept_nodes, emitted_tokens, finish } = cut;
        let phase = self.phase();
        self.committed += kept_nodes;
        self.new_from = self.tokens.len();
        self.tokens.extend_from_slice(&self.accepted_path.sampled[..emitted_tokens]);
        self.finish = finish;
        if finish.is_none() && self.phase() == Phase::Decode && self.committed >= max_context {
            self.finish = Some(FinishReason::ContextFull);
        }
        match phase {
            Phase::Prefill => self.stats.prefilled += kept_nodes,
            Phase::Decode => {
                // The last sampled token is the bonus; the ones before it were drafted.
                let accepted = emitted_tokens.min(self.accepted_path.sampled.len() - 1);
                self.stats.record_step(&self.tree, &self.accepted_path.nodes[1..=accepted], emitted_tokens);
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.dropped.lock().unwrap_or_else(PoisonError::into_inner).push(self.seq);
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("seq", &self.seq)
            .field("tokens", &self.tokens.len())
            .field("prompt_len", &self.prompt_len)
            .field("committed", &self.committed)
            .field("finish", &self.finish)
            .finish_non_exhaustive()
    }
}
