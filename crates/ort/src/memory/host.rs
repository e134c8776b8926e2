//! Keys, values and logits in the memory of the host.

use std::borrow::Cow;
use std::sync::{Arc, PoisonError};

use ort::session::SessionInputValue;
use ort::value::{DynValue, TensorRef};
use upcycle_core::{NodeId, Row, SeqId, TopK, VerifyError};
use upcycle_onnx::layout::{ATTN_BIAS, INPUT_IDS, LOGITS, OUTPUT_ROWS, PAST_BIAS, POSITION_IDS};

use super::{Inputs, Keep, Memory, NAME, failed};
use crate::Model;
use crate::kv::KvCache;

/// Caches in the host's memory; the runtime reads them in place, and new rows stay in its outputs until they are kept.
#[derive(Debug)]
pub(crate) struct HostMemory {
    model: Arc<Model>,
    caches: Vec<Cached>,
    /// Zeros as long as the longest past: every committed row counts.
    counts: Vec<f32>,
    /// Keys or values of the row that stands in for an empty past.
    stand_in: Vec<f32>,
    /// The logits of each pass, `[rows, vocab]`, behind the number of rows of those before it.
    logits: Vec<(usize, DynValue)>,
    rows: usize,
    copied: u64,
}

#[derive(Debug)]
struct Cached {
    seq: SeqId,
    cache: KvCache,
    /// Keys and values as the runtime gave them, by buffer, `[rows, kv_heads, head]`: of the last pass, and of the rows that
    /// wait for a commit.
    aside: Option<Vec<DynValue>>,
    waiting: Option<Vec<DynValue>>,
}

impl HostMemory {
    pub(crate) fn new(model: Arc<Model>) -> Self {
        let stand_in = vec![0.0; model.graph.row()];
        let (caches, logits) = (Vec::new(), Vec::new());
        Self { model, caches, counts: Vec::new(), stand_in, logits, rows: 0, copied: 0 }
    }

    fn cached(&mut self, seq: SeqId) -> Result<&mut Cached, VerifyError> {
        self.caches.iter_mut().find(|cached| cached.seq == seq).ok_or(VerifyError::UnknownSequence { seq })
    }

    /// Runs the graph; the logits, and keys and values by buffer.
    fn run(
        model: &Model,
        inputs: &Inputs,
        past: Option<(&KvCache, &[f32])>,
        stand_in: &[f32],
    ) -> ort::Result<(DynValue, Vec<DynValue>)> {
        let (kv_heads, head) = (model.graph.kv_heads, model.graph.head);
        let bias = past.map_or(&[f32::NEG_INFINITY][..], |(_, bias)| bias);
        let committed = bias.len();
        let [tokens, positions, wanted] = inputs.whole()?;
        let mut values: Vec<(Cow<'_, str>, SessionInputValue<'_>)> = vec![
            (INPUT_IDS.into(), tokens.into()),
            (POSITION_IDS.into(), positions.into()),
            (ATTN_BIAS.into(), inputs.bias()?.into()),
            (PAST_BIAS.into(), TensorRef::from_array_view(([committed], bias))?.into()),
            (OUTPUT_ROWS.into(), wanted.into()),
        ];
        for (buffer, name) in model.past.iter().enumerate() {
            let rows = past.map_or(stand_in, |(cache, _)| cache.prefix(buffer, committed));
            let view = TensorRef::from_array_view(([committed, kv_heads, head], rows))?;
            values.push((name.into(), view.into()));
        }
        let mut session = model.session().lock().unwrap_or_else(PoisonError::into_inner);
        let mut outputs = session.run(values)?;
        let mut take = |name: &str| {
            outputs.remove(name).ok_or_else(|| ort::Error::new(format!("the graph gave no output `{name}`")))
        };
        let new = model.new.iter().map(|name| take(name)).collect::<ort::Result<Vec<_>>>()?;
        let logits = take(LOGITS)?;
        let expected = [(&logits, inputs.wanted() * model.vocab())];
        let rows = new.iter().map(|value| (value, inputs.rows() * kv_heads * head));
        for (value, len) in expected.into_iter().chain(rows) {
            let found = value.try_extract_tensor::<f32>()?.1.len();
            if found != len {
                let message = format!("an output has {found} numbers where {len} were expected");
                return Err(ort::Error::new(message));
            }
        }
        Ok((logits, new))
    }
}

/// The numbers of an output.
fn numbers(value: &DynValue) -> Result<&[f32], VerifyError> {
    let tensor = value.try_extract_tensor::<f32>();
    tensor.map(|(_, numbers)| numbers).map_err(failed("read an output"))
}

impl Keep for HostMemory {
    fn memory(&self) -> Memory {
        Memory::Host
    }

    fn open(&mut self, seq: SeqId) {
        let cache = KvCache::new(self.model.past.len(), self.stand_in.len());
        self.caches.push(Cached { seq, cache, aside: None, waiting: None });
    }

    fn close(&mut self, seq: SeqId) {
        self.caches.retain(|cached| cached.seq != seq);
    }

    fn begin(&mut self, _rows: usize) -> Result<(), VerifyError> {
        self.logits.clear();
        self.rows = 0;
        Ok(())
    }

    fn pass(&mut self, seq: SeqId, committed: usize, inputs: &Inputs) -> Result<(), VerifyError> {
        if self.counts.len() < committed {
            self.counts.resize(committed.next_power_of_two(), 0.0);
        }
        let Self { model, caches, counts, stand_in, .. } = self;
        let cached = caches.iter_mut().find(|cached| cached.seq == seq);
        let cached = cached.ok_or(VerifyError::UnknownSequence { seq })?;
        // Before the pass, so that a commit cannot fail for want of memory.
        let room = cached.cache.reserve(committed + inputs.rows());
        room.map_err(|source| VerifyError::backend(NAME, "make room for keys and values", source))?;
        let past = (committed > 0).then_some((&cached.cache, &counts[..committed]));
        let run = Self::run(model, inputs, past, stand_in);
        let (logits, new) = run.map_err(failed("run the graph"))?;
        cached.aside = Some(new);
        self.logits.push((self.rows, logits));
        self.rows += inputs.wanted();
        self.copied += inputs.bytes();
        Ok(())
    }

    fn rank(&mut self, scored: &[Row], top: &mut TopK) -> Result<(), VerifyError> {
        let vocab = self.model.vocab();
        for (first, logits) in &self.logits {
            let rows = numbers(logits)?.chunks_exact(vocab);
            for (&place, row) in scored[*first..].iter().zip(rows) {
                top.rank(place, row)?;
            }
        }
        Ok(())
    }

    fn settle(&mut self, seq: SeqId) {
        if let Ok(cached) = self.cached(seq) {
            cached.waiting = cached.aside.take();
        }
    }

    fn logits(&mut self, index: usize) -> Result<&[f32], VerifyError> {
        let vocab = self.model.vocab();
        let pass = self.logits.partition_point(|(first, _)| *first <= index).saturating_sub(1);
        let (first, logits) = &self.logits[pass];
        Ok(&numbers(logits)?[(index - first) * vocab..][..vocab])
    }

    fn keep(&mut self, seq: SeqId, _committed: usize, path: &[NodeId]) -> Result<(), VerifyError> {
        let cached = self.cached(seq)?;
        let waiting = cached.waiting.take().unwrap_or_default();
        let rows = waiting.iter().map(numbers).collect::<Result<Vec<_>, _>>()?;
        let mut copied = 0;
        for (buffer, rows) in rows.into_iter().enumerate() {
            for node in path {
                copied += cached.cache.push(buffer, rows, node.index()) as u64;
            }
        }
        self.copied += copied;
        Ok(())
    }

    fn truncate(&mut self, seq: SeqId, rows: usize) {
        if let Ok(cached) = self.cached(seq) {
            cached.cache.truncate(rows);
            cached.waiting = None;
        }
    }

    fn copied(&self) -> u64 {
        self.copied
    }
}
