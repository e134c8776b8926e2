//! The names of the laws, and the error of a broken law.

use std::fmt;

use upcycle_core::VerifyError;

/// What every [`Verifier`](upcycle_core::Verifier) must guarantee.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Law {
    /// 1: each path from root to leaf scores like a chain in a new sequence.
    PathsAreChains,
    /// 2: siblings are invisible to each other: a row depends on its ancestors only.
    SiblingsAreInvisible,
    /// 3: committing a path and continuing equals a prefill of all tokens.
    CommitEqualsPrefill,
    /// 4: truncated tokens leave no trace.
    TruncateForgets,
    /// 5: the chunks of a prefill do not matter.
    ChunksDoNotMatter,
    /// 6: the other sequences of a pass do not matter.
    NeighboursDoNotMatter,
    /// 7: the candidates are the highest logits, sorted.
    TopIsTheHead,
    /// 8: a refused call returns its own error and changes nothing.
    ErrorsChangeNothing,
    /// 9: a closed id is invalid and never given again.
    ClosedIdsAreDead,
    /// 10: with any drafter the text is that of plain decoding with the same seed.
    TextIsPlain,
    /// 11: a row with a NaN or an infinity is an error that names the row.
    NotFiniteIsAnError,
    /// 15: a commit that fails at its second sequence leaves both sequences as they were.
    FailedCommitChangesNothing,
    /// 16: a fork is a copy: its rows are those of a sequence that has read the same tokens, and its original is unchanged.
    ForksAreCopies,
}

impl Law {
    /// All of them, in order. Laws 12 to 14 concern other parts than verifiers.
    pub const ALL: [Law; 13] = [
        Law::PathsAreChains,
        Law::SiblingsAreInvisible,
        Law::CommitEqualsPrefill,
        Law::TruncateForgets,
        Law::ChunksDoNotMatter,
        Law::NeighboursDoNotMatter,
        Law::TopIsTheHead,
        Law::ErrorsChangeNothing,
        Law::ClosedIdsAreDead,
        Law::TextIsPlain,
        Law::NotFiniteIsAnError,
        Law::FailedCommitChangesNothing,
        Law::ForksAreCopies,
    ];

    /// Its number, from 1.
    #[must_use]
    pub fn number(self) -> usize {
        match self {
            Law::FailedCommitChangesNothing => 15,
            Law::ForksAreCopies => 16,
            _ => self as usize + 1,
        }
    }

    /// The law in words.
    #[must_use]
    pub fn statement(self) -> &'static str {
        match self {
            Law::PathsAreChains => "each path from root to leaf scores like a chain in a new sequence",
            Law::SiblingsAreInvisible => "siblings are invisible to each other",
            Law::CommitEqualsPrefill => "committing a path and continuing equals a prefill",
            Law::TruncateForgets => "truncated tokens leave no trace",
            Law::ChunksDoNotMatter => "the chunks of a prefill do not matter",
            Law::NeighboursDoNotMatter => "the other sequences of a pass do not matter",
            Law::TopIsTheHead => "the candidates are the highest logits, sorted",
            Law::ErrorsChangeNothing => "a refused call returns its own error and changes nothing",
            Law::ClosedIdsAreDead => "closed ids are invalid and never given again",
            Law::TextIsPlain => "with any drafter the text is that of plain decoding",
            Law::NotFiniteIsAnError => "a row that is not finite is an error",
            Law::FailedCommitChangesNothing => "a commit that fails at its second sequence changes neither",
            Law::ForksAreCopies => "a fork has the rows of its tokens, and its original is unchanged",
        }
    }
}

impl fmt::Display for Law {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "law {} ({})", self.number(), self.statement())
    }
}

/// A broken law.
#[derive(Debug, thiserror::Error)]
#[error("{law} is broken at {place}: {cause}")]
pub struct Broken {
    /// The law.
    pub law: Law,
    /// The case, which together with the subject's seed reproduces it.
    pub place: String,
    /// What happened.
    pub cause: Cause,
}

/// How a law was broken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Cause {
    /// The result was another.
    #[error("expected {expected}, found {found}")]
    Differs {
        /// What the law requires.
        expected: String,
        /// What the verifier gave.
        found: String,
    },
    /// A call that must succeed failed.
    #[error("{doing} failed: {source}")]
    Failed {
        /// The call.
        doing: &'static str,
        /// Its error.
        source: VerifyError,
    },
    /// The law cannot be tested on this subject.
    #[error("it cannot be tested on this subject: {why}")]
    OutOfReach {
        /// Why not, and what to do.
        why: String,
    },
}
