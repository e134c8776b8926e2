//! The contract of a drafter: guess trees, learn from what the model said of them.

use crate::{Candidates, DraftTree, NodeId, Row, RowSelection, SeqId, TokenId, TopK};

/// What a drafter sees of a sequence before it drafts.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The sequence.
    pub seq: SeqId,
    /// Prompt and output so far; the last token is the root of the tree to draft.
    pub tokens: &'a [TokenId],
    /// How many of `tokens` are the prompt.
    pub prompt_len: usize,
}

/// Which part of a sequence a pass was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// A chunk of the prompt: the tree is a chain of prompt tokens, all of them accepted.
    Prefill,
    /// A draft: what the drafter proposed for this step.
    Decode,
}

/// What the model said of a tree: every scored row, and the path that was kept.
#[derive(Clone, Copy, Debug)]
pub struct Outcome<'a> {
    /// The sequence.
    pub seq: SeqId,
    /// Whether this was a prompt chunk or a draft.
    pub phase: Phase,
    /// The tree that was scored.
    pub tree: &'a DraftTree,
    /// The accepted walk from the root (inclusive), before any cut by a stop or a limit.
    pub accepted: &'a [NodeId],
    /// The token sampled at each node of `accepted`: the accepted draft tokens, then the bonus token. Empty for a
    /// prompt chunk that is not the last.
    pub sampled: &'a [TokenId],
    top: &'a TopK,
    input: usize,
}

impl<'a> Outcome<'a> {
    /// The outcome of tree `input` of the pass that filled `top`.
    #[must_use]
    pub fn new(
        seq: SeqId,
        phase: Phase,
        tree: &'a DraftTree,
        (accepted, sampled): (&'a [NodeId], &'a [TokenId]),
        (top, input): (&'a TopK, usize),
    ) -> Self {
        Self { seq, phase, tree, accepted, sampled, top, input }
    }

    /// The model's best candidates after `node`; none where the row was not asked for (most of a prompt).
    #[must_use]
    pub fn candidates(&self, node: NodeId) -> Option<Candidates<'a>> {
        self.top.get(Row { input: self.input, node: node.index() })
    }

    /// Every node with candidates, in node order.
    pub fn scored(&self) -> impl Iterator<Item = (NodeId, Candidates<'a>)> + use<'a> {
        let (top, input) = (self.top, self.input);
        top.nodes(input).filter_map(move |node| Some((NodeId::new(node), top.get(Row { input, node })?)))
    }
}

/// What a drafter's tables take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    /// Bytes of all tables together.
    pub bytes: usize,
    /// Rows that hold something.
    pub rows: usize,
}

/// Guesses what the model will say next.
///
/// Infallible and in host memory only. A drafter can be arbitrarily wrong: it decides how many steps a text takes,
/// never which text it is.
pub trait Drafter: Send {
    /// Grows `tree`, which holds its root alone, within its [limits](DraftTree::limits): a push that does not fit is
    /// refused by the tree. Called before every pass of a sequence that is being decoded, also where there is no space
    /// at all, so that a drafter can follow the text.
    ///
    /// Where a [budget](crate::AutoBudget) chooses the size, not every node drafted is scored.
    fn draft(&mut self, context: Context<'_>, tree: &mut DraftTree);

    /// Learns from a pass: called once for each sequence and pass, prompt chunks included.
    fn observe(&mut self, outcome: &Outcome<'_>) {
        let _ = outcome;
    }

    /// Forgets what it kept of one sequence (not what it learned for all).
    fn forget(&mut self, seq: SeqId) {
        let _ = seq;
    }

    /// How many candidates of each row it learns from.
    fn k(&self) -> usize {
        1
    }

    /// The rows of the prompt that it wants candidates for; each costs the model's head.
    fn prompt_rows(&self) -> RowSelection {
        RowSelection::Last
    }

    /// The size of its tables.
    fn footprint(&self) -> Footprint {
        Footprint::default()
    }

    /// The names of its sources, if it has several: bit `i` of a node's [label](DraftTree::label) stands for the i-th.
    /// At most 8.
    fn sources(&self) -> Vec<&'static str> {
        Vec::new()
    }
}

impl<D: Drafter + ?Sized> Drafter for Box<D> {
    fn draft(&mut self, context: Context<'_>, tree: &mut DraftTree) {
        (**self).draft(context, tree);
    }
    fn observe(&mut self, outcome: &Outcome<'_>) {
        (**self).observe(outcome);
    }
    fn forget(&mut self, seq: SeqId) {
        (**self).forget(seq);
    }
    fn k(&self) -> usize {
        (**self).k()
    }
    fn prompt_rows(&self) -> RowSelection {
        (**self).prompt_rows()
    }
    fn footprint(&self) -> Footprint {
        (**self).footprint()
    }
    fn sources(&self) -> Vec<&'static str> {
        (**self).sources()
    }
}

/// Drafts nothing: plain decoding, one token a step.
#[derive(Clone, Copy, Debug, Default)]
pub struct NullDrafter;

impl Drafter for NullDrafter {
    fn draft(&mut self, _: Context<'_>, _: &mut DraftTree) {}
}
