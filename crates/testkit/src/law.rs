//! The laws by name, and what it is to break one.

use std::fmt;

use upcycle_core::VerifyError;

/// What every [`Verifier`](upcycle_core::Verifier) promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Law {
    /// 1: each root-to-leaf path of a tree scores as a fresh chain.
    PathsAreChains,
    /// 2: siblings are invisible to each other: a row depends on its ancestors alone.
    SiblingsAreInvisible,
    /// 3: to commit a path and go on equals a prefill of the whole.
    CommitEqualsPrefill,
    /// 4: what is truncated was never seen.
    TruncateForgets,
    /// 5: the chunks of a prefill do not matter.
    ChunksDoNotMatter,
    /// 6: the other sequences of a pass do not matter.
    NeighboursDoNotMatter,
    /// 7: the candidates are the sorted head of the logits.
    TopIsTheHead,
    /// 8: past a limit, or after any error: a typed error and an unchanged state.
    ErrorsChangeNothing,
    /// 9: a closed id is dead and never given again.
    ClosedIdsAreDead,
    /// 10: with any drafter, the same seed gives the text of plain decoding.
    TextIsPlain,
    /// 11: a row that is not finite is a typed error.
    NotFiniteIsAnError,
}

impl Law {
    /// All of them, in order.
    pub const ALL: [Law; 11] = [
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
    ];

    /// Its number, from 1.
    #[must_use]
    pub fn number(self) -> usize {
        self as usize + 1
    }

    /// It, in words.
    #[must_use]
    pub fn statement(self) -> &'static str {
        match self {
            Law::PathsAreChains => "each root-to-leaf path scores as a fresh chain",
            Law::SiblingsAreInvisible => "siblings are invisible to each other",
            Law::CommitEqualsPrefill => "commit, then continue, equals prefill",
            Law::TruncateForgets => "truncated equals never seen",
            Law::ChunksDoNotMatter => "prefill chunking does not matter",
            Law::NeighboursDoNotMatter => "batch neighbours do not matter",
            Law::TopIsTheHead => "top is the sorted head of logits",
            Law::ErrorsChangeNothing => "an error is typed and changes nothing",
            Law::ClosedIdsAreDead => "closed ids are dead",
            Law::TextIsPlain => "any drafter gives the text of plain decoding",
            Law::NotFiniteIsAnError => "a row that is not finite is a typed error",
        }
    }
}

impl fmt::Display for Law {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "law {} ({})", self.number(), self.statement())
    }
}

/// A law that does not hold.
#[derive(Debug, thiserror::Error)]
#[error("{law} is broken at {place}: {cause}")]
pub struct Broken {
    /// The law.
    pub law: Law,
    /// The case: enough, with the subject's seed, to find it again.
    pub place: String,
    /// What happened.
    pub cause: Cause,
}

/// How a law was found broken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Cause {
    /// Something else came out.
    #[error("expected {expected}, found {found}")]
    Differs {
        /// What the law demands.
        expected: String,
        /// What there was.
        found: String,
    },
    /// A call that has to succeed failed.
    #[error("{doing} failed: {source}")]
    Failed {
        /// The call.
        doing: &'static str,
        /// Its error.
        source: VerifyError,
    },
    /// The subject is such that the law cannot be tried.
    #[error("it cannot be tried on this subject: {why}")]
    OutOfReach {
        /// What is in the way, and what to do.
        why: String,
    },
}
