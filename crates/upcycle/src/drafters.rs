//! From a choice in the configuration to a drafter.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use upcycle_core::mixed::{
    AdjacencySource, CandidateSource, Corpus, CorpusMatcher, FrequentTokens, MixedDrafter, NgramCache,
    SuffixMatcher, TopKHistory,
};
use upcycle_core::snapshot::Fingerprint;
use upcycle_core::{
    AdjacencyMatrix, Context, CostCurve, CostError, DraftTree, Drafter, Footprint, MatrixError, NullDrafter,
    Outcome, PromptLookup, RowSelection, SnapshotError, TokenRecycling,
};

use crate::{DrafterChoice, Mixed, Recycling, SourceName, TextsError, Tree};

/// Prompt lookup matches at most this many tokens, as the original does.
const MAX_NGRAM: NonZeroUsize = NonZeroUsize::MIN.saturating_add(2);

/// Tokens that prompt lookup copies where the budget chooses how many of them are scored.
const LOOKUP: usize = 16;

/// The drafter that a configuration asks for.
///
/// An enum, not a `Box<dyn Drafter>`, so that the matrix can be saved and cleared.
#[derive(Debug)]
#[non_exhaustive]
pub enum AnyDrafter {
    /// Token Recycling over a template.
    Recycling(TokenRecycling),
    /// The most probable nodes of one or several sources.
    Mixed(Box<MixedDrafter>),
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
    /// The file of costs is there and cannot be used.
    #[error("{path} holds no costs of passes; `upcycle bench cost` writes such a file", path = path.display())]
    Costs {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: CostFileError,
    },
    /// Sizes are to come from saved costs, and there are none.
    #[error(
        "drafter.deterministic needs the costs of passes and none could be timed: name a file of `upcycle bench cost` as \
         drafter.costs, or set drafter.budget to a number"
    )]
    NoCosts,
    /// The folder of texts cannot be used.
    #[error(transparent)]
    Texts(#[from] TextsError),
    /// The source `texts` without its texts.
    #[error("the source `texts` needs a corpus to copy from; `Text::corpus` reads that of drafter.texts")]
    NoCorpus,
}

/// Why a file of costs cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CostFileError {
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] std::io::Error),
    /// It is no cost curve.
    #[error(transparent)]
    Curve(#[from] CostError),
}

impl AnyDrafter {
    /// The drafter of `choice` for a model of `vocab` tokens whose tokenizer has this fingerprint, on a machine of these
    /// costs. Its matrix is that of its snapshot if that file is there, else an empty one. `corpus` is that of the texts that
    /// the choice names, by [`Text::corpus`](crate::Text::corpus).
    ///
    /// # Errors
    /// [`DrafterError`]: a snapshot that is there and damaged, or of another model, is never passed over, nor are missing
    /// texts.
    pub fn build(
        choice: &DrafterChoice,
        vocab: usize,
        fingerprint: &Fingerprint,
        costs: Option<&CostCurve>,
        corpus: Option<&Arc<Corpus>>,
    ) -> Result<Self, DrafterError> {
        let matrix = Self::first_matrix(choice, vocab, fingerprint)?;
        Self::over(matrix, choice, costs, corpus)
    }

    /// The matrix that a drafter of `choice` begins with: that of its snapshot if that file is there, else an empty one.
    ///
    /// # Errors
    /// [`DrafterError::Matrix`], [`DrafterError::Snapshot`].
    pub fn first_matrix(
        choice: &DrafterChoice,
        vocab: usize,
        fingerprint: &Fingerprint,
    ) -> Result<AdjacencyMatrix, DrafterError> {
        let k = choice.k();
        Ok(match choice.snapshot() {
            Some(path) if path.exists() => {
                let matrix = AdjacencyMatrix::load(path, vocab, k, fingerprint)?;
                tracing::info!(path = %path.display(), rows = matrix.rows(), "matrix read from its snapshot");
                matrix
            }
            Some(path) => {
                tracing::info!(path = %path.display(), "no snapshot yet: starting with an empty matrix");
                AdjacencyMatrix::new(vocab, k)?
            }
            None => AdjacencyMatrix::new(vocab, k)?,
        })
    }

    /// As [`build`](Self::build), but with an empty matrix whatever the configuration says.
    ///
    /// # Errors
    /// [`DrafterError::Matrix`], [`DrafterError::NoCorpus`].
    pub fn cold(
        choice: &DrafterChoice,
        vocab: usize,
        costs: Option<&CostCurve>,
        corpus: Option<&Arc<Corpus>>,
    ) -> Result<Self, DrafterError> {
        Self::over(AdjacencyMatrix::new(vocab, choice.k())?, choice, costs, corpus)
    }

    /// The drafter of `choice` over `matrix`, which those without one have no use for.
    fn over(
        matrix: AdjacencyMatrix,
        choice: &DrafterChoice,
        costs: Option<&CostCurve>,
        corpus: Option<&Arc<Corpus>>,
    ) -> Result<Self, DrafterError> {
        Ok(match choice {
            DrafterChoice::Recycling(Recycling { tree, prompt_rows, .. }) => {
                let rows = prompt_rows.rows(costs);
                match tree {
                    Tree::Auto => {
                        let drafter = MixedDrafter::new(vec![Box::new(AdjacencySource::new(matrix))]);
                        Self::Mixed(Box::new(drafter.with_prompt_rows(rows)))
                    }
                    Tree::Template { template, .. } => {
                        let drafter = TokenRecycling::new(matrix, template.clone());
                        Self::Recycling(drafter.with_prompt_rows(rows))
                    }
                }
            }
            DrafterChoice::Mixed(mixed) => {
                let drafter = MixedDrafter::new(mixed_sources(mixed, matrix, corpus)?);
                Self::Mixed(Box::new(drafter.with_prompt_rows(mixed.prompt_rows.rows(costs))))
            }
            DrafterChoice::PromptLookup { budget } => {
                Self::PromptLookup(PromptLookup::new(MAX_NGRAM, budget.nodes().unwrap_or(LOOKUP)))
            }
            DrafterChoice::None => Self::None(NullDrafter),
        })
    }

    /// Its adjacency matrix, if it has one.
    #[must_use]
    pub fn matrix(&self) -> Option<&AdjacencyMatrix> {
        match self {
            Self::Recycling(drafter) => Some(drafter.matrix()),
            Self::Mixed(drafter) => drafter.matrix(),
            Self::PromptLookup(_) | Self::None(_) => None,
        }
    }

    /// Keeps the matrix in the configured snapshot; does nothing where none is configured.
    ///
    /// # Errors
    /// [`SnapshotError::Io`]; a snapshot that was there before is then untouched.
    pub fn save(&self, choice: &DrafterChoice, fingerprint: &Fingerprint) -> Result<(), SnapshotError> {
        let Some(path) = choice.snapshot() else { return Ok(()) };
        if self.get().save(path, fingerprint)? {
            tracing::info!(path = %path.display(), rows = self.footprint().rows, "matrix saved to its snapshot");
        }
        Ok(())
    }

    fn get(&self) -> &dyn Drafter {
        match self {
            Self::Recycling(drafter) => drafter,
            Self::Mixed(drafter) => &**drafter,
            Self::PromptLookup(drafter) => drafter,
            Self::None(drafter) => drafter,
        }
    }

    fn get_mut(&mut self) -> &mut dyn Drafter {
        match self {
            Self::Recycling(drafter) => drafter,
            Self::Mixed(drafter) => &mut **drafter,
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
    fn clear(&mut self) {
        self.get_mut().clear();
    }
    fn save(&self, path: &Path, fingerprint: &Fingerprint) -> Result<bool, SnapshotError> {
        self.get().save(path, fingerprint)
    }
    fn load(&mut self, path: &Path, fingerprint: &Fingerprint) -> Result<bool, SnapshotError> {
        self.get_mut().load(path, fingerprint)
    }
    fn k(&self) -> usize {
        self.get().k()
    }
    fn prompt_rows(&self) -> RowSelection {
        self.get().prompt_rows()
    }
    fn footprint(&self) -> Footprint {
        self.get().footprint()
    }
    fn sources(&self) -> Vec<&'static str> {
        self.get().sources()
    }
}

/// The sources of the mixed drafter; the matrix goes to the one that recycles by single tokens.
fn mixed_sources(
    mixed: &Mixed,
    matrix: AdjacencyMatrix,
    corpus: Option<&Arc<Corpus>>,
) -> Result<Vec<Box<dyn CandidateSource>>, DrafterError> {
    let (vocab, bytes) = (matrix.vocab(), mixed.table_mib << 20);
    let mut matrix = Some(matrix);
    let source = |&name: &SourceName| -> Option<Result<Box<dyn CandidateSource>, DrafterError>> {
        Some(Ok(match name {
            SourceName::Recycling => Box::new(AdjacencySource::new(matrix.take()?)),
            SourceName::Bigram => Box::new(NgramCache::new(2, bytes)),
            SourceName::Trigram => Box::new(NgramCache::new(3, bytes)),
            SourceName::Suffix => Box::new(SuffixMatcher::default()),
            SourceName::TopKHistory => Box::new(TopKHistory::default()),
            SourceName::Frequent => Box::new(FrequentTokens::new(vocab)),
            SourceName::Texts => match corpus {
                Some(corpus) => Box::new(CorpusMatcher::new(Arc::clone(corpus))),
                None => return Some(Err(DrafterError::NoCorpus)),
            },
        }))
    };
    // No source stands twice in a configuration, so the matrix is taken once.
    mixed.sources.iter().filter_map(source).collect()
}
