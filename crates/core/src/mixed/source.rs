//! The contract of a source: what may come next, and how sure such a guess was in the past.

use crate::{AdjacencyMatrix, Candidates, Context, NodeId, Outcome, Phase, SeqId, TokenId};

/// How many tokens before and at a node a source sees.
pub const WINDOW: usize = 16;

/// The most sources of one drafter.
pub const MAX_SOURCES: usize = 8;

/// A place in a text, or in a draft of it, after which a token is to be guessed.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The sequence.
    pub seq: SeqId,
    /// The tokens up to the place, the newest last: at least one, at most [`WINDOW`].
    pub recent: &'a [TokenId],
    /// Drafted tokens among them: 0 at the root of a draft.
    pub depth: usize,
}

/// What a source says at one place. A source that says nothing there is left out of the mix.
#[derive(Clone, Debug, Default)]
pub struct Proposals {
    items: Vec<(TokenId, u8)>,
}

impl Proposals {
    /// Proposes `token`; the first call is the source's best guess, and a token stands at most once.
    ///
    /// `grade` is the source's own measure of how good the guess is: any number below
    /// [`grades`](Source::grades). How often guesses of a grade come true is learned, so that a grade need not be
    /// ordered in any way; it should tell apart what is not equally good (a rank, a score, the length of a match).
    pub fn push(&mut self, token: TokenId, grade: u8) {
        self.items.push((token, grade));
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

    /// What is proposed so far.
    #[must_use]
    pub fn items(&self) -> &[(TokenId, u8)] {
        &self.items
    }

    pub(crate) fn clear(&mut self) {
        self.items.clear();
    }
}

/// What the model said of a pass.
#[derive(Clone, Copy, Debug)]
pub struct Scored<'a> {
    outcome: &'a Outcome<'a>,
}

impl<'a> Scored<'a> {
    pub(crate) fn new(outcome: &'a Outcome<'a>) -> Self {
        Self { outcome }
    }

    /// The pass.
    #[must_use]
    pub fn outcome(&self) -> &'a Outcome<'a> {
        self.outcome
    }

    /// The place at `node`, its tokens written into `window`.
    #[must_use]
    pub fn place<'w>(&self, node: NodeId, window: &'w mut [TokenId; WINDOW]) -> Place<'w> {
        let tree = self.outcome.tree;
        let mut start = WINDOW;
        let mut next = Some(node);
        while let (Some(node), 1..) = (next, start) {
            start -= 1;
            window[start] = tree.tokens()[node.index()];
            next = tree.parent(node);
        }
        for &token in self.outcome.before.iter().rev().take(start) {
            start -= 1;
            window[start] = token;
        }
        let depth = tree.depths()[node.index()] as usize;
        Place { seq: self.outcome.seq, recent: &window[start..], depth }
    }

    /// Every row scored, in the order in which it is to be learned: in node order, then along the accepted path once
    /// more, so that of two rows for one key the accepted one stays.
    pub fn rows(&self) -> impl Iterator<Item = (NodeId, Candidates<'a>)> + use<'a> {
        let outcome = self.outcome;
        let again = if outcome.phase == Phase::Decode { &outcome.accepted.nodes[..] } else { &[] };
        let again = again.iter().filter_map(move |&node| Some((node, outcome.candidates(node)?)));
        // A row that was left unfilled says nothing.
        let filled = |candidates: &Candidates<'_>| candidates.logits.first().is_some_and(|x| x.is_finite());
        outcome.scored().chain(again).filter(move |(_, candidates)| filled(candidates))
    }
}

/// Guesses one token at a time; a [`MixedDrafter`](crate::MixedDrafter) grows trees from the guesses of several.
///
/// Infallible and in host memory only, like a drafter.
pub trait Source: Send {
    /// Its name in configurations and reports.
    fn name(&self) -> &'static str;

    /// What may follow `place`, best first.
    fn propose(&self, place: Place<'_>, proposals: &mut Proposals);

    /// How many grades it tells apart, at most 256.
    fn grades(&self) -> usize;

    /// The share of guesses of `grade` that come true, before anything was seen.
    fn prior(&self, grade: u8) -> f32;

    /// How much it counts beside other sources that speak at a place, before anything was seen: relative, above 0.
    fn trust(&self) -> f32 {
        0.4
    }

    /// Follows a text: called before each draft with all of it.
    fn follow(&mut self, context: Context<'_>) {
        let _ = context;
    }

    /// Learns from a pass.
    fn observe(&mut self, scored: Scored<'_>) {
        let _ = scored;
    }

    /// Forgets what it kept of one sequence.
    fn forget(&mut self, seq: SeqId) {
        let _ = seq;
    }

    /// Forgets everything that it learned.
    fn clear(&mut self);

    /// Its adjacency matrix, if it is one: what a snapshot keeps.
    fn matrix(&self) -> Option<&AdjacencyMatrix> {
        None
    }

    /// Replaces its adjacency matrix, if it has one, by one that a snapshot kept.
    fn set_matrix(&mut self, matrix: AdjacencyMatrix) {
        let _ = matrix;
    }

    /// The bytes of its tables.
    fn bytes(&self) -> usize;
}
