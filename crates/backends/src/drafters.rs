//! From a choice in the configuration to a drafter.

use std::num::NonZeroUsize;

use upcycle_core::snapshot::Fingerprint;
use upcycle_core::{
    AdjacencyMatrix, Context, DraftTree, Drafter, Footprint, MatrixError, NullDrafter, Outcome, PromptLookup,
    Rows, SnapshotError, TokenRecycling,
};

use crate::{DrafterChoice, Recycling};

/// Prompt lookup matches at most this many tokens, as the original does.
const MAX_NGRAM: NonZeroUsize = NonZeroUsize::MIN.saturating_add(2);

/// The drafter that a configuration asks for.
///
/// An enum, not a `Box<dyn Drafter>`, so that the matrix can be saved and cleared.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum AnyDrafter {
    /// Token Recycling.
    Recycling(TokenRecycling),
    /// Prompt lookup.
    PromptLookup(PromptLookup),
    /// Plain decoding.
    None(NullDrafter),
}

/// Why a drafter could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DrafterError {
    /// The matrix cannot exist.
    #[error("no matrix for this model")]
    Matrix(#[from] MatrixError),
    /// The snapshot is there and cannot be used.
    #[error("the matrix snapshot cannot be used; remove it to start anew, or name another file")]
    Snapshot(#[from] SnapshotError),
}

impl AnyDrafter {
    /// The drafter of `choice` for a model of `vocab` tokens whose tokenizer has this fingerprint. Recycling starts
    /// from its snapshot if that file is there, else from an empty matrix.
    ///
    /// # Errors
    /// [`DrafterError`]: a snapshot that is there and damaged, or of another model, is never passed over.
    pub fn build(
        choice: &DrafterChoice,
        vocab: usize,
        fingerprint: &Fingerprint,
    ) -> Result<Self, DrafterError> {
        let DrafterChoice::Recycling(recycling) = choice else { return Self::cold(choice, vocab) };
        let matrix = match &recycling.snapshot {
            Some(path) if path.exists() => {
                let matrix = AdjacencyMatrix::load(path, vocab, recycling.k, fingerprint)?;
                tracing::info!(path = %path.display(), rows = matrix.rows(), "matrix read from its snapshot");
                matrix
            }
            Some(path) => {
                tracing::info!(path = %path.display(), "no snapshot yet: starting with an empty matrix");
                AdjacencyMatrix::new(vocab, recycling.k)?
            }
            None => AdjacencyMatrix::new(vocab, recycling.k)?,
        };
        Ok(Self::Recycling(TokenRecycling::new(matrix, recycling.tree.template.clone())))
    }

    /// As [`build`](Self::build), but with an empty matrix whatever the configuration says.
    ///
    /// # Errors
    /// [`DrafterError::Matrix`].
    pub fn cold(choice: &DrafterChoice, vocab: usize) -> Result<Self, DrafterError> {
        Ok(match choice {
            DrafterChoice::Recycling(Recycling { k, tree, .. }) => {
                Self::Recycling(TokenRecycling::new(AdjacencyMatrix::new(vocab, *k)?, tree.template.clone()))
            }
            DrafterChoice::PromptLookup { budget } => {
                Self::PromptLookup(PromptLookup::new(MAX_NGRAM, *budget))
            }
            DrafterChoice::None => Self::None(NullDrafter),
        })
    }

    /// Keeps the matrix in the configured snapshot; does nothing where none is configured.
    ///
    /// # Errors
    /// [`SnapshotError::Io`]; a snapshot that was there before is then untouched.
    pub fn save(&self, choice: &DrafterChoice, fingerprint: &Fingerprint) -> Result<(), SnapshotError> {
        let DrafterChoice::Recycling(Recycling { snapshot: Some(path), .. }) = choice else { return Ok(()) };
        let Self::Recycling(drafter) = self else { return Ok(()) };
        drafter.matrix().save(path, fingerprint)?;
        tracing::info!(path = %path.display(), rows = drafter.matrix().rows(), "matrix kept in its snapshot");
        Ok(())
    }

    fn get(&self) -> &dyn Drafter {
        match self {
            Self::Recycling(drafter) => drafter,
            Self::PromptLookup(drafter) => drafter,
            Self::None(drafter) => drafter,
        }
    }

    fn get_mut(&mut self) -> &mut dyn Drafter {
        match self {
            Self::Recycling(drafter) => drafter,
            Self::PromptLookup(drafter) => drafter,
            Self::None(drafter) => drafter,
        }
    }
}

impl Drafter for AnyDrafter {
    fn draft(&mut self, context: Context<'_>, tree: &mut DraftTree) {
        self.get_mut().draft(context, tree);
    }
    fn observe(&mut self, outcome: &Outcome<'_>) {
        self.get_mut().observe(outcome);
    }
    fn forget(&mut self, seq: upcycle_core::SeqId) {
        self.get_mut().forget(seq);
    }
    fn k(&self) -> usize {
        self.get().k()
    }
    fn prompt_rows(&self) -> Rows {
        self.get().prompt_rows()
    }
    fn footprint(&self) -> Footprint {
        self.get().footprint()
    }
}
