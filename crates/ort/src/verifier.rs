//! The [`Verifier`]: sequences, passes, commits.

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, PoisonError};

use ort::session::SessionInputValue;
use ort::value::{DynValue, TensorRef};
use tracing::debug_span;
use upcycle_core::{
    Commit, DraftTree, Limits, Row, SeqId, Step, Support, TopK, Verifier, VerifyError, check_commits, views,
};
use upcycle_onnx::layout::{ATTN_BIAS, INPUT_IDS, LOGITS, OUTPUT_ROWS, PAST_BIAS, POSITION_IDS};

use crate::Model;
use crate::kv::KvCache;

/// Rows of one pass; the scores of all heads are held for them.
const MAX_ROWS: usize = 512;
/// Sequences open at once.
const MAX_SEQS: usize = 64;
/// The name that errors carry.
const NAME: &str = "ort";

/// Verifies draft trees with a [`Model`] in ONNX Runtime.
///
/// Memory: keys and values of committed rows in `f32`, for twice the rows at most, until their sequence closes; those of
/// the last pass, and its logits, until the next.
pub struct OrtVerifier {
    model: Arc<Model>,
    limits: Limits,
    sequences: Vec<Sequence>,
    next: u64,
    inputs: Inputs,
    /// Zeros as long as the longest past: every committed row counts.
    counts: Vec<f32>,
    /// Keys or values of the row that stands in for an empty past.
    stand_in: Vec<f32>,
    /// The rows that the last forward was asked for, rising, and the logits of each step, `[rows, vocab]`.
    scored: Vec<Row>,
    logits: Vec<DynValue>,
    copied: u64,
}

/// An open sequence.
#[derive(Debug)]
struct Sequence {
    id: SeqId,
    committed: usize,
    cache: KvCache,
    pending: Option<Pending>,
}

/// Scored rows that wait for a commit.
#[derive(Debug)]
struct Pending {
    parents: Vec<u32>,
    /// Their keys and values as the runtime gave them, by buffer: `[rows, kv_heads, head]`.
    new: Vec<DynValue>,
}

/// What the host writes for a pass.
#[derive(Debug, Default)]
struct Inputs {
    tokens: Vec<i64>,
    depths: Vec<u32>,
    positions: Vec<i64>,
    /// `[rows, rows]`
    bias: Vec<f32>,
    /// The nodes that pass the head.
    rows: Vec<i64>,
}

impl Inputs {
    /// Lays out a tree behind `committed` tokens; the bytes written.
    fn lay_out(&mut self, tree: &DraftTree, committed: usize, wanted: impl Iterator<Item = usize>) -> usize {
        let Self { tokens, depths, positions, bias, rows } = self;
        tokens.clear();
        tokens.extend(tree.tokens().iter().map(|&token| i64::from(token)));
        views::positions(tree, committed, depths);
        positions.clear();
        positions.extend(depths.iter().map(|&position| i64::from(position)));
        views::additive_mask(tree, 0, bias);
        rows.clear();
        rows.extend(wanted.map(|node| node as i64));
        8 * (tokens.len() + positions.len() + rows.len()) + 4 * bias.len()
    }
}

impl fmt::Debug for OrtVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OrtVerifier")
            .field("model", &self.model)
            .field("limits", &self.limits)
            .field("sequences", &self.sequences.len())
            .finish_non_exhaustive()
    }
}

impl OrtVerifier {
    /// A verifier without sequences.
    #[must_use]
    pub fn new(model: Arc<Model>) -> Self {
        let limits = Limits {
            vocab: model.vocab(),
            max_context: model.max_context(),
            max_rows: MAX_ROWS,
            max_leaves: MAX_ROWS,
            max_seqs: MAX_SEQS,
            support: Support::Tree,
        };
        let stand_in = vec![0.0; model.graph.kv_heads * model.graph.head];
        Self {
            model,
            limits,
            sequences: Vec::new(),
            next: 0,
            inputs: Inputs::default(),
            counts: Vec::new(),
            stand_in,
            scored: Vec::new(),
            logits: Vec::new(),
            copied: 0,
        }
    }

    /// The model.
    #[must_use]
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// The committed tokens of an open sequence.
    #[must_use]
    pub fn committed(&self, seq: SeqId) -> Option<usize> {
        Some(self.sequences[self.index(seq).ok()?].committed)
    }

    /// Bytes that passes have written and commits have moved since this verifier was made: for a tree of `n` rows of which
    /// `m` are wanted, `16 n + 8 m + 4 n²`, and `8 layers · kv_heads · head` for each accepted row. (Room that is doubled
    /// is not counted: it moves each row once on average.)
    #[must_use]
    pub fn copied_bytes(&self) -> u64 {
        self.copied
    }

    fn index(&self, seq: SeqId) -> Result<usize, VerifyError> {
        let index = self.sequences.iter().position(|sequence| sequence.id == seq);
        index.ok_or(VerifyError::UnknownSequence { seq })
    }

    /// Runs one step: the logits of the wanted rows, and the new keys and values.
    fn run(&mut self, step: &Step<'_>, wanted: impl Iterator<Item = usize>) -> Result<Outputs, VerifyError> {
        let index = self.index(step.seq)?;
        let committed = self.sequences[index].committed;
        let rows = step.tree.len();
        // Before the pass, so that a commit cannot fail for want of memory.
        let room = self.sequences[index].cache.reserve(committed + rows);
        room.map_err(|source| VerifyError::backend(NAME, "make room for keys and values", source))?;
        self.copied += self.inputs.lay_out(step.tree, committed, wanted) as u64;
        if self.counts.len() < committed {
            self.counts.resize(committed.next_power_of_two(), 0.0);
        }
        let pass = Pass {
            model: &self.model,
            inputs: &self.inputs,
            past: (committed > 0).then_some((&self.sequences[index].cache, &self.counts[..committed])),
            stand_in: &self.stand_in,
        };
        pass.run().map_err(|source| VerifyError::backend(NAME, "run the graph", source))
    }
}

/// What a run gives.
struct Outputs {
    logits: DynValue,
    new: Vec<DynValue>,
}

/// One run of the graph.
struct Pass<'a> {
    model: &'a Model,
    inputs: &'a Inputs,
    /// The cache and the bias of its committed rows; none for an empty sequence.
    past: Option<(&'a KvCache, &'a [f32])>,
    stand_in: &'a [f32],
}

impl Pass<'_> {
    fn run(&self) -> ort::Result<Outputs> {
        let Self { model, inputs, past, stand_in } = self;
        let rows = inputs.tokens.len();
        let (kv_heads, head) = (model.graph.kv_heads, model.graph.head);
        let bias = past.map_or(&[f32::NEG_INFINITY][..], |(_, bias)| bias);
        let committed = bias.len();
        let mut values: Vec<(Cow<'_, str>, SessionInputValue<'_>)> = vec![
            (INPUT_IDS.into(), TensorRef::from_array_view(([rows], &inputs.tokens[..]))?.into()),
            (POSITION_IDS.into(), TensorRef::from_array_view(([rows], &inputs.positions[..]))?.into()),
            (ATTN_BIAS.into(), TensorRef::from_array_view(([rows, rows], &inputs.bias[..]))?.into()),
            (PAST_BIAS.into(), TensorRef::from_array_view(([committed], bias))?.into()),
            (OUTPUT_ROWS.into(), TensorRef::from_array_view(([inputs.rows.len()], &inputs.rows[..]))?.into()),
        ];
        for (buffer, name) in model.past.iter().enumerate() {
            let rows = past.map_or(*stand_in, |(cache, _)| cache.prefix(buffer, committed));
            let view = TensorRef::from_array_view(([committed, kv_heads, head], rows))?;
            values.push((name.into(), view.into()));
        }
        let mut session = model.session().lock().unwrap_or_else(PoisonError::into_inner);
        let mut outputs = session.run(values)?;
        let mut take = |name: &str| {
            outputs.remove(name).ok_or_else(|| ort::Error::new(format!("the graph gave no output `{name}`")))
        };
        let new = model.new.iter().map(|name| take(name)).collect::<ort::Result<_>>()?;
        let outputs = Outputs { logits: take(LOGITS)?, new };
        let expected = [(&outputs.logits, inputs.rows.len() * model.vocab())];
        let new = outputs.new.iter().map(|value| (value, rows * kv_heads * head));
        for (value, len) in expected.into_iter().chain(new) {
            let found = value.try_extract_tensor::<f32>()?.1.len();
            if found != len {
                return Err(ort::Error::new(format!(
                    "an output has {found} numbers where {len} were expected"
                )));
            }
        }
        Ok(outputs)
    }
}

/// The numbers of an output.
fn numbers(value: &DynValue) -> Result<&[f32], VerifyError> {
    let tensor = value.try_extract_tensor::<f32>();
    tensor.map(|(_, numbers)| numbers).map_err(|source| VerifyError::backend(NAME, "read an output", source))
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
        let cache = KvCache::new(self.model.past.len(), self.stand_in.len());
        self.sequences.push(Sequence { id, committed: 0, cache, pending: None });
        Ok(id)
    }

    fn close(&mut self, seq: SeqId) {
        self.sequences.retain(|sequence| sequence.id != seq);
    }

    fn forward(&mut self, steps: &[Step<'_>], top: &mut TopK) -> Result<(), VerifyError> {
        let rows = steps.iter().map(|step| step.tree.len()).sum::<usize>();
        let _span = debug_span!("forward", sequences = steps.len(), rows).entered();
        self.scored.clear();
        self.logits.clear();
        self.limits.check_steps(steps, |seq| self.committed(seq))?;
        top.restart(steps, self.limits.vocab);
        let (mut scored, mut logits, mut passes) = (Vec::new(), Vec::new(), Vec::new());
        for (number, step) in steps.iter().enumerate() {
            let outputs = self.run(step, top.nodes(number))?;
            let rows = numbers(&outputs.logits)?.chunks_exact(self.limits.vocab);
            for (node, row) in top.nodes(number).zip(rows) {
                let place = Row { step: number, node };
                top.rank(place, row)?;
                scored.push(place);
            }
            logits.push(outputs.logits);
            passes.push(outputs.new);
        }
        // Nothing is left that can fail.
        for (step, new) in steps.iter().zip(passes) {
            if let Some(sequence) = self.sequences.iter_mut().find(|sequence| sequence.id == step.seq) {
                sequence.pending = Some(Pending { parents: step.tree.parents().to_vec(), new });
            }
        }
        (self.scored, self.logits) = (scored, logits);
        Ok(())
    }

    fn logits(&mut self, row: Row) -> Result<&[f32], VerifyError> {
        let index = self.scored.binary_search(&row).map_err(|_| VerifyError::NoSuchRow { row })?;
        let first = self.scored.partition_point(|other| other.step < row.step);
        Ok(&numbers(&self.logits[row.step])?[(index - first) * self.limits.vocab..][..self.limits.vocab])
    }

    fn commit(&mut self, commits: &[Commit<'_>]) -> Result<(), VerifyError> {
        check_commits(commits, |seq| {
            let pending = self.sequences[self.index(seq)?].pending.as_ref();
            let pending = pending.ok_or(VerifyError::NothingToCommit { seq })?;
            // So that no output turns out unreadable when half of them have been taken.
            pending.new.iter().try_for_each(|value| numbers(value).map(drop))?;
            Ok(&pending.parents)
        })?;
        for commit in commits {
            let index = self.index(commit.seq)?;
            let sequence = &mut self.sequences[index];
            let Some(pending) = sequence.pending.take() else { continue };
            for (buffer, value) in pending.new.iter().enumerate() {
                let rows = numbers(value)?;
                for node in commit.path {
                    self.copied += sequence.cache.push(buffer, rows, node.index()) as u64;
                }
            }
            sequence.committed += commit.path.len();
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
        sequence.cache.truncate(len);
        sequence.pending = None;
        Ok(())
    }
}
