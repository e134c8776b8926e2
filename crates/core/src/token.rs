//! Ids of tokens, sequences and rows.

use std::fmt;

/// The id of a token in the model's vocabulary.
pub type TokenId = u32;

/// An open sequence of a [`Verifier`](crate::Verifier).
///
/// A verifier never gives the same id twice, so a closed id stays closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeqId(u64);

impl SeqId {
    /// The id with this number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number of this id.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Display for SeqId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sequence {}", self.0)
    }
}

/// One scored row of the last [`forward`](crate::Verifier::forward): node `node` of tree `input`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Row {
    /// The index of the tree among the inputs that `forward` was given.
    pub input: usize,
    /// The index of the node in that tree.
    pub node: usize,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {} of input {}", self.node, self.input)
    }
}
