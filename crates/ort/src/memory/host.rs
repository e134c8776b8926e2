//! Keys, values and logits in the host's memory.

use std::borrow::Cow;
use std::sync::{Arc, PoisonError};

use ort::session::SessionInputValue;
use ort::value::{DynValue, Tensor, TensorRef, TensorValueType};
use upcycle_core::{AcceptedRows, RowLayout, SeqId, Sequence, TopK, VerifyError};
use upcycle_onnx::layout::{ATTN_BIAS, INPUT_IDS, LOGITS, OUTPUT_ROWS, PAST_BIAS, POSITION_IDS};

use super::inputs::PassInputs;
use super::store::{KvStore, failed};
use crate::kv::KvCache;
use crate::model::Model;
use crate::options::Memory;

/// Caches in the host's memory. The runtime reads them in place, and new rows stay in its outputs until a commit.
#[derive(Debug)]
pub(crate) struct HostMemory {
    model: Arc<Model>,
    caches: Vec<HostCache>,
    /// Zeros as long as the longest past: no committed row is masked.
    past_bias: Vec<f32>,
    /// Keys or values of the masked row that the runtime is given in place of an empty past.
    placeholder: Vec<f32>,
    /// The logits of each pass, `[rows, vocab]`, with the index of its first row.
    logits: Vec<(usize, Tensor<f32>)>,
    rows: usize,
    copied_bytes: u64,
}

#[derive(Debug)]
struct HostCache {
    seq: SeqId,
    committed: KvCache,
    /// Keys and values as the runtime returned them, by buffer, `[rows, kv_heads, head_dim]`: those of the last pass, and the
    /// pending ones.
    new: Vec<Tensor<f32>>,
    pending: Vec<Tensor<f32>>,
}

impl HostMemory {
    pub(crate) fn new(model: Arc<Model>) -> Self {
        let placeholder = vec![0.0; model.graph.row()];
        let (caches, past_bias, logits) = (Vec::new(), Vec::new(), Vec::new());
        Self { model, caches, past_bias, placeholder, logits, rows: 0, copied_bytes: 0 }
    }

    fn cache(&mut self, seq: SeqId) -> Option<&mut HostCache> {
        self.caches.iter_mut().find(|cache| cache.seq == seq)
    }

    /// Runs the graph. Returns the logits, and the new keys and values by buffer.
    fn run(
        model: &Model,
        inputs: &PassInputs,
        past: Option<(&KvCache, &[f32])>,
        placeholder: &[f32],
    ) -> ort::Result<(Tensor<f32>, Vec<Tensor<f32>>)> {
        let (kv_heads, head_dim) = (model.graph.kv_heads, model.graph.head_dim);
        let bias = past.map_or(&[f32::NEG_INFINITY][..], |(_, bias)| bias);
        let committed = bias.len();
        let [tokens, positions, output_rows] = inputs.integer_tensors()?;
        let mut values: Vec<(Cow<'_, str>, SessionInputValue<'_>)> = vec![
            (INPUT_IDS.into(), tokens.into()),
            (POSITION_IDS.into(), positions.into()),
            (ATTN_BIAS.into(), inputs.mask_tensor()?.into()),
            (PAST_BIAS.into(), TensorRef::from_array_view(([committed], bias))?.into()),
            (OUTPUT_ROWS.into(), output_rows.into()),
        ];
        for (buffer, name) in model.past.iter().enumerate() {
            let rows = past.map_or(placeholder, |(cache, _)| cache.prefix(buffer, committed));
            let view = TensorRef::from_array_view(([committed, kv_heads, head_dim], rows))?;
            values.push((name.into(), view.into()));
        }
        let mut session = model.session().lock().unwrap_or_else(PoisonError::into_inner);
        let mut outputs = session.run(values)?;
        let rows = inputs.rows() * kv_heads * head_dim;
        let new = model.new.iter().map(|name| take(outputs.remove(name), name, rows));
        let new = new.collect::<ort::Result<Vec<_>>>()?;
        let logits = take(outputs.remove(LOGITS), LOGITS, inputs.output_rows() * model.vocab())?;
        Ok((logits, new))
    }
}

/// An output of `len` numbers.
fn take(value: Option<DynValue>, name: &str, len: usize) -> ort::Result<Tensor<f32>> {
    let value = value.ok_or_else(|| ort::Error::new(format!("the graph returned no output `{name}`")))?;
    let tensor = value.downcast::<TensorValueType<f32>>()?;
    let found = tensor.try_extract_tensor::<f32>()?.1.len();
    if found != len {
        return Err(ort::Error::new(format!("expected {len} numbers in the output `{name}`, found {found}")));
    }
    Ok(tensor)
}

/// The elements of an output.
fn numbers(tensor: &Tensor<f32>) -> &[f32] {
    tensor.extract_tensor().1
}

impl KvStore for HostMemory {
    fn memory(&self) -> Memory {
        Memory::Host
    }

    fn open(&mut self, seq: SeqId) {
        let committed = KvCache::new(self.model.past.len(), self.placeholder.len());
        self.caches.push(HostCache { seq, committed, new: Vec::new(), pending: Vec::new() });
    }

    fn can_fork(&self) -> bool {
        true
    }

    fn fork(&mut self, from: SeqId, to: SeqId, len: usize) -> Result<(), VerifyError> {
        let source = self.cache(from).ok_or(VerifyError::UnknownSequence { seq: from })?;
        let copied = source.committed.copy_prefix(len);
        let committed =
            copied.map_err(|source| VerifyError::backend("ort", "copy keys and values", source))?;
        self.caches.push(HostCache { seq: to, committed, new: Vec::new(), pending: Vec::new() });
        Ok(())
    }

    fn close(&mut self, seq: SeqId) {
        self.caches.retain(|cache| cache.seq != seq);
    }

    fn begin(&mut self, _rows: usize) -> Result<(), VerifyError> {
        self.logits.clear();
        self.rows = 0;
        Ok(())
    }

    fn pass(&mut self, sequence: &Sequence<()>, inputs: &PassInputs) -> Result<(), VerifyError> {
        let (seq, committed) = (sequence.id(), sequence.committed());
        if self.past_bias.len() < committed {
            self.past_bias.resize(committed.next_power_of_two(), 0.0);
        }
        let Self { model, caches, past_bias, placeholder, .. } = self;
        let cache = caches.iter_mut().find(|cache| cache.seq == seq);
        let cache = cache.ok_or(VerifyError::UnknownSequence { seq })?;
        // Before the pass, so that a commit cannot run out of memory.
        let reserved = cache.committed.reserve(committed + inputs.rows());
        reserved
            .map_err(|source| VerifyError::backend("ort", "reserve memory for keys and values", source))?;
        let past = (committed > 0).then_some((&cache.committed, &past_bias[..committed]));
        let run = Self::run(model, inputs, past, placeholder);
        let (logits, new) = run.map_err(failed("run the graph"))?;
        cache.new = new;
        self.logits.push((self.rows, logits));
        self.rows += inputs.output_rows();
        self.copied_bytes += inputs.bytes();
        Ok(())
    }

    fn rank(&mut self, rows: &RowLayout, top: &mut TopK) -> Result<(), VerifyError> {
        let vocab = self.model.vocab();
        let mut rows = rows.iter();
        for (_, logits) in &self.logits {
            for (logits, row) in numbers(logits).chunks_exact(vocab).zip(rows.by_ref()) {
                top.set_from_logits(row, logits)?;
            }
        }
        Ok(())
    }

    fn finish(&mut self, seq: SeqId) {
        if let Some(cache) = self.cache(seq) {
            cache.pending = std::mem::take(&mut cache.new);
        }
    }

    fn logits(&mut self, index: usize) -> Result<&[f32], VerifyError> {
        let vocab = self.model.vocab();
        let pass = self.logits.partition_point(|(first, _)| *first <= index).saturating_sub(1);
        let (first, logits) = &self.logits[pass];
        Ok(&numbers(logits)[(index - first) * vocab..][..vocab])
    }

    fn prepare(&mut self, _rows: AcceptedRows<'_>) -> Result<(), VerifyError> {
        // The pass has reserved the memory.
        Ok(())
    }

    fn keep(&mut self, rows: AcceptedRows<'_>) {
        let Some(cache) = self.caches.iter_mut().find(|cache| cache.seq == rows.seq) else { return };
        for (buffer, pending) in cache.pending.drain(..).enumerate() {
            for node in rows.path {
                self.copied_bytes += cache.committed.push(buffer, numbers(&pending), node.index()) as u64;
            }
        }
    }

    fn truncate(&mut self, seq: SeqId, len: usize) {
        if let Some(cache) = self.cache(seq) {
            cache.committed.truncate(len);
            cache.pending.clear();
        }
    }

    fn copied_bytes(&self) -> u64 {
        self.copied_bytes
    }
}
