//! The [`Verifier`]: sequences, passes, commits.

use std::fmt;
use std::sync::Arc;

use tracing::debug_span;
use upcycle_core::{Commit, Limits, Row, SeqId, TopK, TreeInput, Verifier, VerifyError, check_commits};

use crate::memory::{DeviceMemory, HostMemory, Inputs, Keep};
use crate::{LoadError, Memory, Model};

/// Rows of one pass; the scores of all heads are held for them.
const MAX_ROWS: usize = 512;
/// Sequences open at once.
const MAX_SEQS: usize = 64;

/// Verifies draft trees with a [`Model`] in ONNX Runtime.
///
/// Memory: keys and values of committed rows in `f32`, for twice the rows at most, until their sequence closes; those of
/// the last pass, and its logits, until the next. They are in the host's memory or in the provider's: [`Memory`].
pub struct OrtVerifier {
    /// First: what it allocated goes before the model.
    memory: Box<dyn Keep>,
    model: Arc<Model>,
    limits: Limits,
    sequences: Vec<Sequence>,
    next: u64,
    inputs: Inputs,
    /// The rows that the last forward was asked for, rising.
    scored: Vec<Row>,
}

/// An open sequence.
#[derive(Debug)]
struct Sequence {
    id: SeqId,
    committed: usize,
    /// The parents of the rows that wait for a commit.
    waiting: Option<Vec<u32>>,
}

impl fmt::Debug for OrtVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OrtVerifier")
            .field("model", &self.model)
            .field("memory", &self.memory.memory())
            .field("limits", &self.limits)
            .field("sequences", &self.sequences.len())
            .finish_non_exhaustive()
    }
}

impl OrtVerifier {
    /// A verifier without sequences, in the memory that suits the model's provider: its own where it has its own and this
    /// crate knows it (CUDA), else the host's.
    #[must_use]
    pub fn new(model: Arc<Model>) -> Self {
        let memory = model.memory();
        Self::over(model, memory)
    }

    /// The same in a memory of the caller's choice.
    ///
    /// # Errors
    /// [`LoadError::Device`] if the provider's memory cannot be had.
    pub fn with_memory(model: Arc<Model>, memory: Memory) -> Result<Self, LoadError> {
        if memory == Memory::Device {
            model.device()?;
        }
        Ok(Self::over(model, memory))
    }

    fn over(model: Arc<Model>, memory: Memory) -> Self {
        let limits = Limits {
            vocab: model.vocab(),
            max_context: model.max_context(),
            max_rows: MAX_ROWS,
            max_leaves: MAX_ROWS,
            max_seqs: MAX_SEQS,
            support: model.graph.support.clone(),
        };
        let memory: Box<dyn Keep> = match memory {
            Memory::Host => Box::new(HostMemory::new(Arc::clone(&model))),
            Memory::Device => Box::new(DeviceMemory::new(Arc::clone(&model))),
        };
        let (sequences, inputs, scored) = (Vec::new(), Inputs::default(), Vec::new());
        Self { memory, model, limits, sequences, next: 0, inputs, scored }
    }

    /// The model.
    #[must_use]
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// Where keys, values and logits are.
    #[must_use]
    pub fn memory(&self) -> Memory {
        self.memory.memory()
    }

    /// The committed tokens of an open sequence.
    #[must_use]
    pub fn committed(&self, seq: SeqId) -> Option<usize> {
        Some(self.sequences[self.index(seq).ok()?].committed)
    }

    /// Bytes that passes have written and commits have moved since this verifier was made: for a tree of `n` rows of which
    /// `m` are wanted, `16 n + 8 m + 4 n²`, and `8 layers · kv_heads · head` for each accepted row.
    ///
    /// In [`Memory::Device`] the accepted rows are moved on the device, and those alone that stand elsewhere than they belong
    /// (none of a chain); for each, `32 layers` bytes of places cross. What comes back is counted too: `12 (k + 1) + 4` for
    /// each wanted row. (Room that is doubled is not counted in either: it moves each row once on average. Nor is a whole row
    /// that is read.)
    #[must_use]
    pub fn copied_bytes(&self) -> u64 {
        self.memory.copied()
    }

    fn index(&self, seq: SeqId) -> Result<usize, VerifyError> {
        let index = self.sequences.iter().position(|sequence| sequence.id == seq);
        index.ok_or(VerifyError::UnknownSequence { seq })
    }
}

impl Verifier for OrtVerifier {
    fn limits(&self) -> &Limits {
        &self.limits
    }

    fn row_tolerance(&self) -> f32 {
        self.model.row_tolerance()
    }

    fn engine(&self) -> String {
        self.model.engine()
    }

    fn threads(&self) -> Option<usize> {
        Some(self.model.threads())
    }

    fn open(&mut self) -> Result<SeqId, VerifyError> {
        if self.sequences.len() >= self.limits.max_seqs {
            return Err(VerifyError::TooManySequences { max: self.limits.max_seqs });
        }
        let id = SeqId::new(self.next);
        self.next += 1;
        self.memory.open(id);
        self.sequences.push(Sequence { id, committed: 0, waiting: None });
        Ok(id)
    }

    fn close(&mut self, seq: SeqId) {
        self.sequences.retain(|sequence| sequence.id != seq);
        self.memory.close(seq);
    }

    fn forward(&mut self, steps: &[TreeInput<'_>], top: &mut TopK) -> Result<(), VerifyError> {
        let rows = steps.iter().map(|step| step.tree.len()).sum::<usize>();
        let _span = debug_span!("forward", sequences = steps.len(), rows).entered();
        self.scored.clear();
        self.limits.check_inputs(steps, |seq| self.committed(seq))?;
        top.restart(steps, self.limits.vocab);
        self.memory.begin(top.rows())?;
        let mut scored = Vec::with_capacity(top.rows());
        for (number, step) in steps.iter().enumerate() {
            let committed = self.sequences[self.index(step.seq)?].committed;
            self.inputs.lay_out(step.tree, committed, top.nodes(number));
            self.memory.pass(step.seq, committed, &self.inputs)?;
            scored.extend(top.nodes(number).map(|node| Row { input: number, node }));
        }
        self.memory.rank(&scored, top)?;
        // Nothing is left that can fail.
        for step in steps {
            self.memory.settle(step.seq);
            if let Some(sequence) = self.sequences.iter_mut().find(|sequence| sequence.id == step.seq) {
                sequence.waiting = Some(step.tree.parents().to_vec());
            }
        }
        self.scored = scored;
        Ok(())
    }

    fn logits(&mut self, row: Row) -> Result<&[f32], VerifyError> {
        let index = self.scored.binary_search(&row).map_err(|_| VerifyError::NoSuchRow { row })?;
        self.memory.logits(index)
    }

    fn commit(&mut self, commits: &[Commit<'_>]) -> Result<(), VerifyError> {
        check_commits(commits, |seq| {
            let waiting = self.sequences[self.index(seq)?].waiting.as_ref();
            Ok(waiting.ok_or(VerifyError::NothingToCommit { seq })?)
        })?;
        for (number, commit) in commits.iter().enumerate() {
            let index = self.index(commit.seq)?;
            let committed = self.sequences[index].committed;
            if let Err(error) = self.memory.keep(commit.seq, committed, commit.path) {
                // What was kept is given up again, and no row waits: a second try finds nothing, instead of rows half moved.
                for commit in &commits[..=number] {
                    let index = self.index(commit.seq)?;
                    self.memory.truncate(commit.seq, self.sequences[index].committed);
                    self.sequences[index].waiting = None;
                }
                return Err(error);
            }
        }
        for commit in commits {
            let index = self.index(commit.seq)?;
            self.sequences[index].committed += commit.path.len();
            self.sequences[index].waiting = None;
        }
        Ok(())
    }

    fn truncate(&mut self, seq: SeqId, len: usize) -> Result<(), VerifyError> {
        let index = self.index(seq)?;
        let sequence = &mut self.sequences[index];
        let committed = sequence.committed;
        if len > committed {
            return Err(VerifyError::TruncateBeyond { seq, committed, len });
        }
        sequence.committed = len;
        sequence.waiting = None;
        self.memory.truncate(seq, len);
        Ok(())
    }
}
