//! The trait of a drafter: it guesses trees and learns from how the model scored them.

use std::path::Path;

use crate::accept::AcceptedPath;
use crate::input::RowSelection;
use crate::snapshot::{Fingerprint, SnapshotError};
use crate::token::{Row, SeqId, TokenId};
use crate::top::{Candidates, TopK};
use crate::tree::{DraftTree, NodeId};

/// What a drafter sees of a sequence before it drafts.
#[derive(Clone, Copy, Debug)]
pub struct DraftContext<'a> {
    /// The sequence.
    pub seq: SeqId,
    /// Prompt and output so far, `[prompt + output]`. The last token is the root of the tree to draft.
    pub tokens: &'a [TokenId],
}

/// Which part of a sequence a pass was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// A chunk of the prompt. The tree is a chain of prompt tokens, and all of them are accepted.
    Prefill,
    /// A draft.
    Decode,
}

/// How the model scored one tree: the rows and the accepted path.
#[derive(Clone, Copy, Debug)]
pub struct Outcome<'a> {
    /// The sequence.
    pub seq: SeqId,
    /// Whether the tree was a prompt chunk or a draft.
    pub phase: Phase,
    /// The tokens before the root of the tree: prompt and output that were committed before the pass.
    pub prefix: &'a [TokenId],
    /// The tree that was scored.
    pub tree: &'a DraftTree,
    /// The accepted path, before a stop or a limit shortened it. A prompt chunk that is not the last samples nothing.
    pub accepted: &'a AcceptedPath,
    /// The candidates of every requested row of the pass.
    pub top: &'a TopK,
    /// The index of `tree` among the inputs of the pass.
    pub input: usize,
}

impl<'a> Outcome<'a> {
    /// The model's best candidates after `node`. `None` where the row was not requested, as in most of a prompt.
    #[must_use]
    pub fn candidates(&self, node: NodeId) -> Option<Candidates<'a>> {
        self.top.get(Row { input: self.input, node: node.index() })
    }

    /// Every node with candidates, in node order.
    pub fn rows_with_candidates(&self) -> impl Iterator<Item = (NodeId, Candidates<'a>)> + use<'a> {
        let (top, input) = (self.top, self.input);
        top.nodes(input).filter_map(move |node| Some((NodeId::new(node), top.get(Row { input, node })?)))
    }
}

/// The size of a drafter's tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    /// Bytes of all tables together.
    pub bytes: usize,
    /// Rows of the adjacency matrix that are not empty.
    pub filled_matrix_rows: usize,
}

/// Guesses which tokens come next.
///
/// # Design
///
/// A drafter decides how many steps a text takes. The tokens themselves are always chosen by the model. So no method returns an
/// error, except those that touch files. A drafter that knows nothing leaves the tree empty, and a pass then costs what plain
/// decoding costs. A wrong one grows a bad tree, which makes the pass slower; an [`AutoBudget`](crate::AutoBudget) then stops
/// drafting. A drafter sees only tokens and candidates. It needs no model, no device and no knowledge of the backend.
///
/// `draft` fills a tree that the caller owns instead of returning one. The tree enforces its
/// [limits](DraftTree::limits), so a drafter need not count nodes. The tree is reused, so drafting need not allocate.
///
/// One drafter serves all sequences of a decoder. What it learns from one text helps the others. State of a single text is
/// keyed by [`SeqId`] and dropped by [`drop_sequence`](Self::drop_sequence).
///
/// # Example
///
/// A drafter that expects each token to be followed by the token that followed it last time:
///
/// ```
/// use std::collections::HashMap;
/// use upcycle_core::{DraftContext, Decoder, DraftTree, Drafter, NodeId, Outcome, Request, TokenId};
/// use upcycle_testkit::NaiveVerifier;
///
/// #[derive(Default)]
/// struct LastSuccessor(HashMap<TokenId, TokenId>);
///
/// impl Drafter for LastSuccessor {
///     fn draft(&mut self, context: DraftContext<'_>, tree: &mut DraftTree) {
///         let (mut parent, mut token) = (NodeId::ROOT, context.tokens[context.tokens.len() - 1]);
///         while let Some(&next) = self.0.get(&token) {
///             // The tree refuses nodes beyond its limits, which ends the loop.
///             let Ok(node) = tree.push(parent, next, None) else { break };
///             (parent, token) = (node, next);
///         }
///     }
///
///     fn observe(&mut self, outcome: &Outcome<'_>) {
///         for (node, candidates) in outcome.rows_with_candidates() {
///             self.0.insert(outcome.tree.tokens()[node.index()], candidates.ids[0]);
///         }
///     }
/// }
///
/// let mut decoder = Decoder::new(NaiveVerifier::new(64, 1), LastSuccessor::default()).with_budget(8);
/// let mut generation = decoder.generate(&[1, 2, 3], Request::greedy(100))?;
/// assert!(generation.by_ref().all(|token| token.is_ok()));
/// assert!(generation.stats().tokens_per_step() > 1.0);
/// # Ok::<(), upcycle_core::DecodeError>(())
/// ```
pub trait Drafter: Send {
    /// Grows `tree`, which holds only its root: the last of `context.tokens`.
    ///
    /// The decoder calls it before every pass of a sequence whose prompt has been read. It does so even if the limits of
    /// the tree allow no nodes, so that the drafter can follow the text. A [budget](crate::budget::AutoBudget) may remove
    /// nodes before the tree is scored.
    fn draft(&mut self, context: DraftContext<'_>, tree: &mut DraftTree);

    /// Learns from a pass. The decoder calls it once per pass for each sequence, prompt chunks included.
    fn observe(&mut self, outcome: &Outcome<'_>) {
        let _ = outcome;
    }

    /// Drops what it keeps for one sequence. What it learned for all sequences stays.
    fn drop_sequence(&mut self, seq: SeqId) {
        let _ = seq;
    }

    /// Drops everything that it learned. A corpus that the user gave it stays.
    fn clear(&mut self) {}

    /// Saves what it learned to the file `path`, for a model whose tokenizer has this `fingerprint`. Returns whether
    /// there was anything to save; a drafter without tables writes no file.
    ///
    /// # Errors
    /// [`SnapshotError`]. An existing file is then unchanged.
    fn save(&self, path: &Path, fingerprint: &Fingerprint) -> Result<bool, SnapshotError> {
        let _ = (path, fingerprint);
        Ok(false)
    }

    /// Replaces what it learned by what [`save`](Self::save) wrote to `path`. Returns whether it reads such files: a
    /// drafter without tables ignores the file.
    ///
    /// # Errors
    /// [`SnapshotError`] names what differs. The drafter is then unchanged.
    fn load(&mut self, path: &Path, fingerprint: &Fingerprint) -> Result<bool, SnapshotError> {
        let _ = (path, fingerprint);
        Ok(false)
    }

    /// How many candidates of each row it learns from.
    fn k(&self) -> usize {
        1
    }

    /// The rows of a prompt that it wants candidates for. Each row costs one matrix-vector product with the output head.
    fn prompt_rows(&self) -> RowSelection {
        RowSelection::Last
    }

    /// The size of its tables.
    fn footprint(&self) -> Footprint {
        Footprint::default()
    }

    /// The names of its sources, at most 8, if it has several. Bit `i` of a node's
    /// [source bits](DraftTree::set_source_bits) stands for the i-th.
    fn sources(&self) -> Vec<&'static str> {
        Vec::new()
    }
}

impl<D: Drafter + ?Sized> Drafter for Box<D> {
    fn draft(&mut self, context: DraftContext<'_>, tree: &mut DraftTree) {
        (**self).draft(context, tree);
    }
    fn observe(&mut self, outcome: &Outcome<'_>) {
        (**self).observe(outcome);
    }
    fn drop_sequence(&mut self, seq: SeqId) {
        (**self).drop_sequence(seq);
    }
    fn clear(&mut self) {
        (**self).clear();
    }
    fn save(&self, path: &Path, fingerprint: &Fingerprint) -> Result<bool, SnapshotError> {
        (**self).save(path, fingerprint)
    }
    fn load(&mut self, path: &Path, fingerprint: &Fingerprint) -> Result<bool, SnapshotError> {
        (**self).load(path, fingerprint)
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

/// Drafts nothing: plain decoding, one token per step.
#[derive(Clone, Copy, Debug, Default)]
pub struct NullDrafter;

impl Drafter for NullDrafter {
    fn draft(&mut self, _: DraftContext<'_>, _: &mut DraftTree) {}
}
