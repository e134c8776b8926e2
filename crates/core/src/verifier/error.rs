//! Errors of a verifier.

use std::borrow::Cow;
use std::error::Error;

use crate::input::TreeInput;
use crate::token::{Row, SeqId, TokenId};
use crate::tree::NodeId;

/// Why a verifier refused a call or failed. Every sequence is unchanged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// The backend cannot copy a sequence.
    #[error("this backend cannot copy a sequence; open one and read the tokens again")]
    CannotFork,
    /// The sequence was closed, or no sequence ever had this id.
    #[error("{seq} is not open; open one and use the id that it returns")]
    UnknownSequence {
        /// The id that was used.
        seq: SeqId,
    },
    /// The limit of open sequences is reached.
    #[error("{max} sequences are open, and no more fit; close one first")]
    TooManySequences {
        /// The limit.
        max: usize,
    },
    /// The same sequence occurs twice in one call.
    #[error("{seq} occurs twice in one call; pass one tree (or path) for each sequence")]
    DuplicateSequence {
        /// The sequence.
        seq: SeqId,
    },
    /// The pass has too many rows.
    #[error("{found} rows in one pass, but at most {max} fit; draft smaller trees or shorter prefill chunks")]
    TooManyRows {
        /// The rows up to the input that exceeds the limit.
        found: usize,
        /// The limit.
        max: usize,
    },
    /// The pass has too many leaves.
    #[error("{found} leaves in one pass, but at most {max} fit; draft narrower trees")]
    TooManyLeaves {
        /// The leaves up to the input that exceeds the limit.
        found: usize,
        /// The limit.
        max: usize,
    },
    /// The sequence would outgrow the context.
    #[error("{rows} rows after {committed} committed tokens do not fit a context of {max}")]
    ContextFull {
        /// Tokens already committed.
        committed: usize,
        /// Rows of the tree.
        rows: usize,
        /// The limit.
        max: usize,
    },
    /// The backend cannot verify a tree with two leaves.
    #[error("this backend verifies chains only ({reason}); draft without branches")]
    UnsupportedTree {
        /// Why it cannot.
        reason: String,
    },
    /// The token is not in the vocabulary.
    #[error("token {token} is outside the vocabulary of {vocab}")]
    TokenOutOfRange {
        /// The token.
        token: TokenId,
        /// The size of the vocabulary.
        vocab: usize,
    },
    /// The path to commit is not a path in the tree that was scored.
    #[error(
        "{node} at depth {depth} of the path of {seq} does not continue it (the tree has {rows} nodes); \
         pass the root first, then a child of the node before"
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
    /// The sequence had no forward since its last commit or truncation.
    #[error("{seq} has no scored rows to commit; run a forward first")]
    NothingToCommit {
        /// The sequence.
        seq: SeqId,
    },
    /// The length to truncate to exceeds the committed tokens.
    #[error("{seq} holds {committed} tokens and cannot be truncated to {len}")]
    TruncateBeyond {
        /// The sequence.
        seq: SeqId,
        /// The tokens committed.
        committed: usize,
        /// The requested length.
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
    /// The row was not requested in the last forward.
    #[error("{row} was not requested in the last forward")]
    NoSuchRow {
        /// The row.
        row: Row,
    },
    /// Candidates that a device ranked are out of order, too few or too many (see [`TopK`](crate::TopK)).
    #[error(
        "the candidates of {row} are in the wrong order, too few or too many; expected descending logits, equal logits by \
         ascending id, and as many candidates as were requested"
    )]
    BadRanking {
        /// The row.
        row: Row,
    },
    /// The row of logits is not as wide as the vocabulary.
    #[error("expected a row of {expected} logits, one for each token of the vocabulary, but got {found}")]
    WrongRowLength {
        /// The size of the vocabulary.
        expected: usize,
        /// The logits of the row.
        found: usize,
    },
    /// The engine failed.
    #[error("{backend} failed to {action}")]
    Backend {
        /// The backend's name.
        backend: Cow<'static, str>,
        /// What it was asked to do.
        action: &'static str,
        /// The engine's own error.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

impl VerifyError {
    /// The error for a row that is not finite: row `index` of a pass over all nodes of `inputs`, by input, then by node.
    #[must_use]
    pub fn not_finite(inputs: &[TreeInput<'_>], index: usize) -> Self {
        let (mut input, mut node) = (0, index);
        while let Some(TreeInput { tree, .. }) = inputs.get(input).filter(|input| node >= input.tree.len()) {
            node -= tree.len();
            input += 1;
        }
        Self::NotFinite { row: Row { input, node } }
    }

    /// Wraps an engine's own error.
    pub fn backend(
        backend: impl Into<Cow<'static, str>>,
        action: &'static str,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self::Backend { backend: backend.into(), action, source: source.into() }
    }
}
