//! One sequence being decoded: what was asked, what was said, what it took.

use std::fmt;

use crate::accept::AcceptedPath;
use crate::drafter::Phase;
use crate::sampling::{Sampler, Sampling};
use crate::stats::{Stats, add_at};
use crate::{DraftTree, SeqId, TokenId};

/// Ends a text early: a stop string, a grammar, a caller's own rule.
///
/// It sees the output token by token, in order, and keeps no state, so that nothing ever rolls back.
pub trait StopRule: Send {
    /// Whether the last token of `output` (which is never empty) ends the text. That token is still emitted.
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
    /// The most tokens to emit.
    pub max_tokens: usize,
    /// Tokens that end the text; the one that does is emitted, as the last.
    pub end_of_sequence: Vec<TokenId>,
    /// One more way to end it.
    pub stop: Option<Box<dyn StopRule>>,
}

impl Request {
    /// Greedy decoding of `max_tokens` tokens that nothing ends early.
    #[must_use]
    pub fn greedy(max_tokens: usize) -> Self {
        Self { sampling: Sampling::greedy(), max_tokens, end_of_sequence: Vec::new(), stop: None }
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("sampling", &self.sampling)
            .field("max_tokens", &self.max_tokens)
            .field("end_of_sequence", &self.end_of_sequence)
            .field("stop", &self.stop.is_some())
            .finish()
    }
}

/// Why a text ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FinishReason {
    /// The model emitted one of the request's end-of-sequence tokens.
    EndOfSequence,
    /// The request's stop rule fired.
    StopString,
    /// The request's token limit was reached.
    MaxTokens,
    /// The context has no room for another token.
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

/// A sequence that a [`Decoder`](crate::Decoder) advances.
///
/// It belongs to the decoder that opened it; give it back to [`close`](crate::Decoder::close), since dropping it
/// leaves the verifier's sequence open.
#[must_use = "an open session holds memory of the verifier until the decoder closes it"]
pub struct Session {
    pub(crate) seq: SeqId,
    pub(crate) tokens: Vec<TokenId>,
    pub(crate) prompt_len: usize,
    /// Tokens whose KV is committed: while decoding, all but the last.
    pub(crate) committed: usize,
    pub(crate) new_tokens: usize,
    pub(crate) request: Request,
    /// None for greedy decoding, which needs no full row of logits.
    pub(crate) sampler: Option<Sampler>,
    pub(crate) tree: DraftTree,
    /// The tree as it was drafted, before a budget cut it; only kept where one does.
    pub(crate) unpruned_tree: DraftTree,
    pub(crate) accepted_path: AcceptedPath,
    pub(crate) outcome: StepOutcome,
    pub(crate) finish: Option<FinishReason>,
    pub(crate) stats: Stats,
}

/// What a accepted_path leads to, once it is committed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct StepOutcome {
    /// Nodes of the accepted_path's path whose KV is kept.
    pub(crate) keep: usize,
    /// Drawn tokens that are emitted.
    pub(crate) emit: usize,
    pub(crate) finish: Option<FinishReason>,
}

impl Session {
    pub(crate) fn new(seq: SeqId, prompt: &[TokenId], request: Request, max_tokens: usize) -> Self {
        let output = request.max_tokens.min(max_tokens.saturating_sub(prompt.len()));
        let mut session = Self {
            seq,
            // A accepted_path may pass the limit before it is cut.
            tokens: Vec::with_capacity(prompt.len() + output + 64),
            prompt_len: 0,
            committed: 0,
            new_tokens: 0,
            sampler: None,
            request,
            tree: DraftTree::new(),
            unpruned_tree: DraftTree::new(),
            accepted_path: AcceptedPath::default(),
            outcome: StepOutcome::default(),
            finish: None,
            stats: Stats {
                emitted: Vec::with_capacity(output),
                nodes: Vec::with_capacity(output),
                ..Stats::default()
            },
        };
        session.restart(prompt);
        session
    }

    /// Starts on a new prompt whose first `committed` tokens are cached.
    pub(crate) fn restart(&mut self, prompt: &[TokenId]) {
        self.tokens.clear();
        self.tokens.extend_from_slice(prompt);
        self.prompt_len = prompt.len();
        self.new_tokens = prompt.len();
        let sampling = self.request.sampling;
        self.sampler = (!sampling.is_greedy()).then(|| Sampler::new(sampling));
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

    /// The tokens of the prompt.
    #[must_use]
    pub fn prompt_len(&self) -> usize {
        self.prompt_len
    }

    /// What was emitted so far.
    #[must_use]
    pub fn output(&self) -> &[TokenId] {
        &self.tokens[self.prompt_len..]
    }

    /// What the last step emitted: nothing while the prompt is being read.
    #[must_use]
    pub fn new_tokens(&self) -> &[TokenId] {
        &self.tokens[self.new_tokens..]
    }

    /// Tokens of the prompt that are in the KV cache.
    #[must_use]
    pub fn prefilled(&self) -> usize {
        self.committed.min(self.prompt_len)
    }

    /// Why it ended; none while it goes on.
    #[must_use]
    pub fn finish_reason(&self) -> Option<FinishReason> {
        self.finish
    }

    /// Ends it before its next step; what was emitted stays.
    pub fn cancel(&mut self) {
        self.finish.get_or_insert(FinishReason::Cancelled);
    }

    /// The tree of its last step, for those who want to show it.
    #[must_use]
    pub fn tree(&self) -> &DraftTree {
        &self.tree
    }

    /// The accepted accepted_path of its last step, before any cut by a stop or a limit.
    #[must_use]
    pub fn accepted_path(&self) -> &AcceptedPath {
        &self.accepted_path
    }

    /// What it took so far.
    #[must_use]
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    pub(crate) fn phase(&self) -> Phase {
        if self.committed < self.prompt_len { Phase::Prefill } else { Phase::Decode }
    }

    /// Decides how much of the accepted_path is emitted; `self.tokens` already ends with all of the accepted_path's sampled tokens.
    pub(crate) fn cut(&self, sampled: usize) -> (usize, Option<FinishReason>) {
        let before = self.tokens.len() - sampled;
        for emit in 1..=sampled {
            let output = &self.tokens[self.prompt_len..before + emit];
            let Some(last) = output.last() else { continue };
            let finish = if self.request.end_of_sequence.contains(last) {
                FinishReason::EndOfSequence
            } else if self.request.stop.as_ref().is_some_and(|stop| stop.stops(output)) {
                FinishReason::StopString
            } else if output.len() >= self.request.max_tokens {
                FinishReason::MaxTokens
            } else {
                continue;
            };
            return (emit, Some(finish));
        }
        (sampled, None)
    }

    /// Takes over a step that the verifier has committed.
    pub(crate) fn apply(&mut self, max_context: usize) {
        let StepOutcome { keep, emit, finish } = self.outcome;
        let phase = self.phase();
        self.committed += keep;
        self.new_tokens = self.tokens.len();
        self.tokens.extend_from_slice(&self.accepted_path.sampled[..emit]);
        self.finish = finish;
        if finish.is_none() && self.phase() == Phase::Decode && self.committed >= max_context {
            self.finish = Some(FinishReason::ContextFull);
        }
        if phase == Phase::Prefill {
            self.stats.prefilled += keep;
            return;
        }
        // The last sampled token is the bonus; the ones before it were drafted.
        let accepted = emit.min(self.accepted_path.sampled.len() - 1);
        self.stats.drafted += self.tree.drafted();
        self.stats.accepted += accepted;
        self.stats.emitted.push(emit as u32);
        self.stats.nodes.push(self.tree.drafted() as u32);
        for &depth in &self.tree.depths()[1..] {
            add_at(&mut self.stats.drafted_by_depth, depth as usize - 1, 1);
        }
        let kept = self
            .accepted_path
            .nodes
            .iter()
            .skip(1)
            .take(accepted)
            .map(|node| self.tree.labels()[node.index()]);
        for (counts, labels) in [
            (
                &mut self.stats.drafted_by_source,
                &mut self.tree.labels()[1..].iter().copied() as &mut dyn Iterator<Item = u8>,
            ),
            (&mut self.stats.accepted_by_source, &mut { kept }),
        ] {
            for label in labels {
                for (source, count) in counts.iter_mut().enumerate() {
                    *count += u64::from(label >> source & 1);
                }
            }
        }
        for depth in 0..accepted {
            add_at(&mut self.stats.accepted_by_depth, depth, 1);
        }
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
