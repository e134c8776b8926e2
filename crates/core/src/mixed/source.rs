//! The interface of a candidate source: which tokens may come next, and how sure each guess is.

use crate::drafter::{DraftContext, Outcome, Phase};
use crate::matrix::AdjacencyMatrix;
use crate::token::{SeqId, TokenId};
use crate::top::Candidates;
use crate::tree::{DraftTree, NodeId};

/// The most tokens of context that a source sees.
pub const MAX_CONTEXT_TOKENS: usize = 16;

/// The most sources of one drafter.
pub const MAX_SOURCES: usize = 8;

/// The text after which a source predicts one token.
#[derive(Clone, Copy, Debug)]
pub struct PredictionContext<'a> {
    /// The sequence.
    pub seq: SeqId,
    /// The last tokens, the newest last: at least one, at most [`MAX_CONTEXT_TOKENS`].
    pub recent: &'a [TokenId],
    /// How many of the last tokens are drafted: 0 at the root of a tree.
    pub depth: usize,
}

impl<'a> PredictionContext<'a> {
    /// The context that ends with `node` of a scored tree. Writes its tokens to `window`.
    #[must_use]
    pub fn from_outcome(
        outcome: &Outcome<'_>,
        node: NodeId,
        window: &'a mut [TokenId; MAX_CONTEXT_TOKENS],
    ) -> Self {
        Self::from_tree(outcome.seq, outcome.prefix, outcome.tree, node, window)
    }

    /// The context that ends with `node` of `tree`, where `before` is the text before the root.
    pub(super) fn from_tree(
        seq: SeqId,
        before: &[TokenId],
        tree: &DraftTree,
        node: NodeId,
        window: &'a mut [TokenId; MAX_CONTEXT_TOKENS],
    ) -> Self {
        let path = std::iter::successors(Some(node), |&node| tree.parent(node));
        let path = path.map(|node| tree.tokens()[node.index()]);
        let mut start = MAX_CONTEXT_TOKENS;
        for (entry, token) in window.iter_mut().rev().zip(path.chain(before.iter().rev().copied())) {
            *entry = token;
            start -= 1;
        }
        Self { seq, recent: &window[start..], depth: tree.depths()[node.index()] as usize }
    }
}

/// What one source proposes in one context. A source without a proposal has no influence there.
#[derive(Clone, Debug, Default)]
pub struct Proposals {
    items: Vec<(TokenId, u8)>,
}

impl Proposals {
    /// Proposes `token`. Propose the best token first, and each token once.
    ///
    /// `confidence_bin` groups guesses that are about equally good, for example by rank, probability or match length. It must be
    /// below [`confidence_bins`](CandidateSource::confidence_bins). The mixer learns how often the guesses of each bin
    /// are right, so the order of the bins does not matter.
    pub fn push(&mut self, token: TokenId, confidence_bin: u8) {
        self.items.push((token, confidence_bin));
    }

    /// Whether nothing is proposed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Whether `token` is proposed.
    #[must_use]
    pub fn contains(&self, token: TokenId) -> bool {
        self.items.iter().any(|&(other, _)| other == token)
    }

    /// The proposed tokens with their confidence bins.
    #[must_use]
    pub fn items(&self) -> &[(TokenId, u8)] {
        &self.items
    }

    pub(super) fn clear(&mut self) {
        self.items.clear();
    }
}

/// The scored rows of a pass in the order in which to learn them: in node order, then the accepted path again. So if two rows
/// have the same key, the row of the accepted path is written last.
pub fn rows_to_learn<'a>(outcome: &Outcome<'a>) -> impl Iterator<Item = (NodeId, Candidates<'a>)> + use<'a> {
    let outcome = *outcome;
    let accepted = if outcome.phase == Phase::Decode { &outcome.accepted.nodes[..] } else { &[] };
    let accepted = accepted.iter().filter_map(move |&node| Some((node, outcome.candidates(node)?)));
    // Skips rows that the backend left unfilled.
    let filled = |candidates: &Candidates<'_>| candidates.logits.first().is_some_and(|x| x.is_finite());
    outcome.rows_with_candidates().chain(accepted).filter(move |(_, candidates)| filled(candidates))
}

/// Predicts one token at a time. A [`MixedDrafter`](crate::mixed::MixedDrafter) grows a draft tree from the predictions of
/// several sources.
///
/// Implement this rather than [`Drafter`](crate::drafter::Drafter) if your method predicts one token from the tokens before
/// it. The drafter grows the tree, learns how often the source is right, and mixes it with the others. Only `name` and
/// `propose` are required. A source never fails and runs in host memory.
///
/// ```
/// use std::collections::HashMap;
///
/// use upcycle_core::mixed::{CandidateSource, MixedDrafter, PredictionContext, Proposals};
/// use upcycle_core::{Decoder, Outcome, Request, TokenId};
/// use upcycle_testkit::NaiveVerifier;
///
/// /// Predicts the token that the model ranked first after the same token last time.
/// #[derive(Default)]
/// struct LastTime(HashMap<TokenId, TokenId>);
///
/// impl CandidateSource for LastTime {
///     fn name(&self) -> &'static str {
///         "last-time"
///     }
///     fn propose(&self, context: PredictionContext<'_>, proposals: &mut Proposals) {
///         if let Some(&next) = context.recent.last().and_then(|newest| self.0.get(newest)) {
///             proposals.push(next, 0);
///         }
///     }
///     fn observe(&mut self, outcome: &Outcome<'_>) {
///         for (node, candidates) in outcome.rows_with_candidates() {
///             self.0.insert(outcome.tree.tokens()[node.index()], candidates.ids[0]);
///         }
///     }
///     fn clear(&mut self) {
///         self.0.clear();
///     }
/// }
///
/// let drafter = MixedDrafter::new(vec![Box::new(LastTime::default())]);
/// let mut decoder = Decoder::new(NaiveVerifier::new(64, 1), drafter).with_budget(8);
/// let mut generation = decoder.generate(&[1, 2, 3], Request::greedy(300))?;
/// assert!(generation.by_ref().all(|token| token.is_ok()));
/// assert!(generation.stats().tokens_per_step() > 1.2);
/// # Ok::<(), upcycle_core::DecodeError>(())
/// ```
pub trait CandidateSource: Send {
    /// The name in configurations and reports.
    fn name(&self) -> &'static str;

    /// Proposes tokens that may follow `context`, best first.
    fn propose(&self, context: PredictionContext<'_>, proposals: &mut Proposals);

    /// The number of confidence bins, 1 to 256. By default 8, which is enough for a rank.
    fn confidence_bins(&self) -> usize {
        8
    }

    /// The assumed hit rate of the guesses in `confidence_bin`, until the mixer has seen some. The default suits ranks: a third
    /// for bin 0, and less for each further bin.
    fn prior_hit_rate(&self, confidence_bin: u8) -> f32 {
        0.33 / (1.0 + f32::from(confidence_bin)).powi(2)
    }

    /// The initial weight relative to the other sources, above 0. The mixer then learns it.
    fn initial_weight(&self) -> f32 {
        0.4
    }

    /// Receives the whole text of a sequence before each draft.
    fn before_draft(&mut self, context: DraftContext<'_>) {
        let _ = context;
    }

    /// Learns from a scored pass. Called once for each sequence of the pass, for chunks of the prompt too.
    fn observe(&mut self, outcome: &Outcome<'_>) {
        let _ = outcome;
    }

    /// Drops what it keeps of one sequence.
    fn drop_sequence(&mut self, seq: SeqId) {
        let _ = seq;
    }

    /// Drops everything that it has learned. Implement it if the source learns.
    fn clear(&mut self) {}

    /// The adjacency matrix that a snapshot saves, if the source has one.
    fn matrix(&self) -> Option<&AdjacencyMatrix> {
        None
    }

    /// Replaces the adjacency matrix by one from a snapshot, if the source has one.
    fn set_matrix(&mut self, matrix: AdjacencyMatrix) {
        let _ = matrix;
    }

    /// The bytes of its tables.
    fn bytes(&self) -> usize {
        0
    }
}
