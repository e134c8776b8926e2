//! Why a verifier refused or failed.

use std::borrow::Cow;
use std::error::Error;

use crate::{NodeId, Row, SeqId, TokenId};

/// Why a verifier refused or failed. Every sequence is as it was before the call.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// The id is closed or was never given.
    #[error("{seq} is not open; open one and use the id that it returns")]
    UnknownSequence {
        /// The id that was used.
        seq: SeqId,
    },
    /// No more sequences can be open at once.
    #[error("{max} sequences are open, and no more fit; close one first")]
    TooManySequences {
        /// The limit.
        max: usize,
    },
    /// The same sequence stands twice in one call.
    #[error("{seq} stands twice in one call; give each sequence one tree (or path) a call")]
    TwiceInOnePass {
        /// The sequence.
        seq: SeqId,
    },
    /// The pass has too many rows.
    #[error("{found} rows in one pass, but at most {max} fit; draft smaller trees or shorter prefill chunks")]
    TooManyRows {
        /// The rows up to the step at which the limit was passed.
        found: usize,
        /// The limit.
        max: usize,
    },
    /// The pass has too many leaves.
    #[error("{found} leaves in one pass, but at most {max} fit; draft narrower trees")]
    TooManyLeaves {
        /// The leaves up to the step at which the limit was passed.
        found: usize,
        /// The limit.
        max: usize,
    },
    /// The sequence would outgrow the context.
    #[error("{rows} rows after {committed} committed tokens do not fit a context of {max}")]
    ContextFull {
        /// Tokens already committed.
        committed: usize,
        /// Rows of the step.
        rows: usize,
        /// The limit.
        max: usize,
    },
    /// The backend cannot verify a tree with two leaves.
    #[error("this backend verifies chains only ({reason}); draft without branches")]
    UnsupportedTree {
        /// What stands in the way.
        reason: String,
    },
    /// A token that the vocabulary lacks.
    #[error("token {token} is outside the vocabulary of {vocab}")]
    TokenOutOfRange {
        /// The token.
        token: TokenId,
        /// The size of the vocabulary.
        vocab: usize,
    },
    /// The path to commit is not a path of the tree that was scored.
    #[error(
        "{node} at depth {depth} of the path of {seq} does not continue it (the tree has {rows} nodes); \
         give the root, then a child of each node before it"
    )]
    NotAPath {
        /// The sequence.
        seq: SeqId,
        /// The index of the node in the path.
        depth: usize,
        /// The node.
        node: NodeId,
        /// The nodes of the tree that was scored.
        rows: usize,
    },
    /// No forward is open for commitment.
    #[error("{seq} has no scored rows to commit; run a forward first")]
    NothingToCommit {
        /// The sequence.
        seq: SeqId,
    },
    /// A truncation to more tokens than there are.
    #[error("{seq} holds {committed} tokens and cannot be truncated to {len}")]
    TruncateBeyond {
        /// The sequence.
        seq: SeqId,
        /// The tokens committed.
        committed: usize,
        /// The length asked for.
        len: usize,
    },
    /// The model's output is NaN or infinite.
    #[error(
        "the logits of {row} are not finite: the model file is damaged, or its type overflows on this device"
    )]
    NotFinite {
        /// The row.
        row: Row,
    },
    /// The row was not asked for in the last forward.
    #[error("{row} was not asked for in the last forward")]
    NoSuchRow {
        /// The row.
        row: Row,
    },
    /// Candidates that a device has ranked stand in another order than [`TopK`](crate::TopK) has, or are too few or too many.
    #[error(
        "the candidates of {row} are not its best ones in order; expected falling logits, equal ones by rising id, as many as \
         were asked for"
    )]
    NotRanked {
        /// The row.
        row: Row,
    },
    /// A row of logits of another width than the vocabulary.
    #[error("a row of {found} logits where the vocabulary has {expected}")]
    WrongVocab {
        /// The size of the vocabulary.
        expected: usize,
        /// The width of the row.
        found: usize,
    },
    /// The engine below failed.
    #[error("{backend} failed to {doing}")]
    Backend {
        /// The backend's name.
        backend: Cow<'static, str>,
        /// What it was doing.
        doing: &'static str,
        /// What the engine said.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

impl VerifyError {
    /// Wraps an engine's own error.
    pub fn backend(
        backend: impl Into<Cow<'static, str>>,
        doing: &'static str,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self::Backend { backend: backend.into(), doing, source: source.into() }
    }
}
