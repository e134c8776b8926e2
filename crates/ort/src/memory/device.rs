//! Keys, values and logits in the memory of the provider.

use std::ops::Range;
use std::sync::{Arc, PoisonError};

use ort::value::{DynValue, Tensor, TensorRef};
use upcycle_core::{NodeId, Row, SeqId, TopK, VerifyError};

use super::{Inputs, Keep, Memory, failed};
use crate::Model;
use crate::device::{Block, Device, Ranked, Run, View};

/// Rows that a cache has room for at first.
const START: usize = 256;

/// Caches in the provider's memory.
///
/// A cache is one block, `[buffers, capacity, row]`, a buffer being the keys or the values of a layer. The first rows of a
/// buffer are committed, and are the runtime's input as they stand; the runtime writes the rows of a pass behind them. A
/// commit moves the accepted ones together: none of a chain, which are in place.
#[derive(Debug)]
pub(crate) struct DeviceMemory {
    caches: Vec<Cache>,
    /// The logits of the last forward, `[rows, vocab]`, and how many rows of it there are.
    logits: Option<Block>,
    rows: usize,
    /// The row of them that was read last.
    read: Option<DynValue>,
    /// Zeros as long as the longest past: every committed row counts.
    counts: Option<Block>,
    /// Keys or values of the row that stands in for an empty past.
    stand_in: Vec<f32>,
    copied: u64,
    /// Last, so that it outlives what was allocated with it.
    model: Arc<Model>,
}

#[derive(Debug)]
struct Cache {
    seq: SeqId,
    block: Option<Block>,
    capacity: usize,
    /// Where the rows of the last pass stand in each buffer, and those that wait for a commit.
    aside: Option<Range<usize>>,
    waiting: Option<Range<usize>>,
}

impl DeviceMemory {
    /// Over a model whose [`device`](Model::device) there is.
    pub(crate) fn new(model: Arc<Model>) -> Self {
        let stand_in = vec![0.0; model.graph.row()];
        let (caches, logits, read, counts) = (Vec::new(), None, None, None);
        Self { caches, logits, rows: 0, read, counts, stand_in, copied: 0, model }
    }

    fn cache(&mut self, seq: SeqId) -> Result<&mut Cache, VerifyError> {
        self.caches.iter_mut().find(|cache| cache.seq == seq).ok_or(VerifyError::UnknownSequence { seq })
    }

    /// Sees that there are zeros for `committed` rows.
    fn count(&mut self, committed: usize) -> ort::Result<()> {
        if self.counts.as_ref().is_none_or(|block| block.len() < committed) {
            let len = committed.next_power_of_two();
            let block = device(&self.model)?.block(len)?;
            let zeros = Tensor::from_array(([len], vec![0.0_f32; len]))?;
            device(&self.model)?.copy(&zeros, &block.view(0, &[len])?)?;
            self.counts = Some(block);
        }
        Ok(())
    }

    /// The logits of row `index`, in host memory.
    fn read(&mut self, index: usize) -> ort::Result<&[f32]> {
        let vocab = self.model.vocab();
        let block = self.logits.as_ref().filter(|_| index < self.rows).ok_or_else(|| no_block("logits"))?;
        let row = device(&self.model)?.read(&block.view(index * vocab, &[vocab])?)?;
        Ok(self.read.insert(row).try_extract_tensor::<f32>()?.1)
    }
}

/// What was made when the memory was.
fn device(model: &Model) -> ort::Result<&Device> {
    model.device().map_err(|error| ort::Error::new(error.to_string()))
}

fn no_block(what: &str) -> ort::Error {
    ort::Error::new(format!("there are no {what} to read"))
}

impl Cache {
    /// Makes room for `rows` rows of each buffer, of which the first `live` are kept. Room is doubled, up to `most` rows where
    /// that is enough.
    fn reserve(&mut self, model: &Model, rows: usize, (live, most): (usize, usize)) -> ort::Result<()> {
        if rows <= self.capacity {
            return Ok(());
        }
        let (buffers, row) = (model.past.len(), model.graph.row());
        let capacity = (2 * self.capacity).max(START).min(most).max(rows);
        let len = buffers.checked_mul(row).and_then(|len| len.checked_mul(capacity));
        let len = len.ok_or_else(|| ort::Error::new("so many keys and values have no address"))?;
        let block = device(model)?.block(len)?;
        if let Some(old) = self.block.as_ref().filter(|_| live > 0) {
            for buffer in 0..buffers {
                let [from, to] = [(old, self.capacity), (&block, capacity)]
                    .map(|(block, capacity)| block.view(buffer * capacity * row, &[live * row]));
                device(model)?.copy(from?.tensor(), &to?)?;
            }
        }
        (self.block, self.capacity) = (Some(block), capacity);
        Ok(())
    }

    /// `rows` rows of each buffer from row `from` on, `[rows, kv_heads, head]`.
    fn views(&self, model: &Model, from: usize, rows: usize) -> ort::Result<Vec<View<'_>>> {
        let (row, shape) = (model.graph.row(), [rows, model.graph.kv_heads, model.graph.head]);
        let block = self.block.as_ref().ok_or_else(|| no_block("keys and values"))?;
        let first = |buffer| (buffer * self.capacity + from) * row;
        (0..model.past.len()).map(|buffer| block.view(first(buffer), &shape)).collect()
    }

    /// Runs the graph behind `committed` rows, with its new rows from row `from` on.
    fn pass(
        &self,
        model: &Model,
        (inputs, from): (&Inputs, usize),
        (committed, counts, stand_in): (usize, Option<&Block>, &[f32]),
        logits: &View<'_>,
    ) -> ort::Result<()> {
        let [tokens, positions, wanted] = inputs.whole()?;
        let bias = inputs.bias()?;
        let new = self.views(model, from, inputs.rows())?;
        let past = if committed > 0 { self.views(model, 0, committed)? } else { Vec::new() };
        let counts = match counts {
            Some(block) if committed > 0 => Some(block.view(0, &[committed])?),
            _ => None,
        };
        // For an empty past a row of the host's, masked.
        let masked = TensorRef::from_array_view(([1_usize], &[f32::NEG_INFINITY][..]))?;
        let shape = [1, model.graph.kv_heads, model.graph.head];
        let stand_in = TensorRef::from_array_view((shape, stand_in))?;
        let names = model.names();
        let mut run = Run::default();
        run.input(&names.input_ids, &tokens);
        run.input(&names.position_ids, &positions);
        run.input(&names.attn_bias, &bias);
        run.input(&names.past_bias, counts.as_ref().map_or(&masked, View::tensor));
        run.input(&names.output_rows, &wanted);
        for (buffer, name) in names.past.iter().enumerate() {
            run.input(name, past.get(buffer).map_or(&stand_in, View::tensor));
        }
        run.output(&names.logits, logits);
        for (name, view) in names.new.iter().zip(&new) {
            run.output(name, view);
        }
        run.run(&mut model.session().lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Keep for DeviceMemory {
    fn memory(&self) -> Memory {
        Memory::Device
    }

    fn open(&mut self, seq: SeqId) {
        self.caches.push(Cache { seq, block: None, capacity: 0, aside: None, waiting: None });
    }

    fn close(&mut self, seq: SeqId) {
        self.caches.retain(|cache| cache.seq != seq);
    }

    fn begin(&mut self, rows: usize) -> Result<(), VerifyError> {
        (self.rows, self.read) = (0, None);
        if rows == 0 {
            return Ok(());
        }
        let len = rows * self.model.vocab();
        if self.logits.as_ref().is_none_or(|block| block.len() < len) {
            // First, so that both do not have to fit.
            self.logits = None;
            let block = device(&self.model).and_then(|device| device.block(len));
            self.logits = Some(block.map_err(failed("make room for logits"))?);
        }
        Ok(())
    }

    fn pass(&mut self, seq: SeqId, committed: usize, inputs: &Inputs) -> Result<(), VerifyError> {
        self.count(committed).map_err(failed("make room for a mask"))?;
        let Self { model, caches, counts, stand_in, logits, .. } = self;
        let cache = caches.iter_mut().find(|cache| cache.seq == seq);
        let cache = cache.ok_or(VerifyError::UnknownSequence { seq })?;
        // Not over rows that wait: they stay if this pass fails.
        let from = match &cache.waiting {
            Some(waiting) if waiting.start < committed + inputs.rows() => waiting.end,
            _ => committed,
        };
        cache.aside = None;
        let live = cache.waiting.as_ref().map_or(committed, |waiting| waiting.end.max(committed));
        let room = (live, model.max_context());
        let room = cache.reserve(model, from + inputs.rows(), room);
        room.map_err(failed("make room for keys and values"))?;
        let vocab = model.vocab();
        let (first, wanted) = (self.rows, inputs.wanted());
        let run = || {
            let logits = logits.as_ref().ok_or_else(|| no_block("logits"))?;
            let logits = logits.view(first * vocab, &[wanted, vocab])?;
            cache.pass(model, (inputs, from), (committed, counts.as_ref(), stand_in), &logits)
        };
        run().map_err(failed("run the graph"))?;
        cache.aside = Some(from..from + inputs.rows());
        self.rows += wanted;
        self.copied += inputs.bytes();
        Ok(())
    }

    fn rank(&mut self, scored: &[Row], top: &mut TopK) -> Result<(), VerifyError> {
        if scored.is_empty() {
            return Ok(());
        }
        let doing = "rank logits";
        let vocab = self.model.vocab();
        let width = top.k().min(vocab);
        // One more, so that a tie across the border is seen.
        let k = (width + 1).min(vocab);
        let ranked = {
            let run = || {
                let logits = self.logits.as_ref().ok_or_else(|| no_block("logits"))?;
                device(&self.model)?.rank(&logits.view(0, &[self.rows, vocab])?, k)
            };
            run().map_err(failed(doing))?
        };
        self.copied += Ranked::bytes(self.rows, k);
        let (mut pairs, mut ids, mut best) = (Vec::new(), Vec::new(), Vec::new());
        for (index, (&place, row)) in scored.iter().zip(ranked.rows().map_err(failed(doing))?).enumerate() {
            if !row.finite {
                return Err(VerifyError::NotFinite { row: place });
            }
            if top.wants_log_sum_exp() || !row.order(width, &mut pairs) {
                let logits = self.read(index).map_err(failed("read logits"))?;
                top.rank(place, logits)?;
                continue;
            }
            ids.clear();
            ids.extend(pairs.iter().map(|&(id, _)| id));
            best.clear();
            best.extend(pairs.iter().map(|&(_, logit)| logit));
            top.ranked(place, &ids, &best)?;
        }
        Ok(())
    }

    fn settle(&mut self, seq: SeqId) {
        if let Ok(cache) = self.cache(seq) {
            cache.waiting = cache.aside.take();
        }
    }

    fn logits(&mut self, index: usize) -> Result<&[f32], VerifyError> {
        self.read(index).map_err(failed("read logits"))
    }

    fn keep(&mut self, seq: SeqId, committed: usize, path: &[NodeId]) -> Result<(), VerifyError> {
        let (buffers, row) = (self.model.past.len(), self.model.graph.row());
        let model = Arc::clone(&self.model);
        let cache = self.cache(seq)?;
        let Some(waiting) = cache.waiting.take() else { return Ok(()) };
        let places =
            path.iter().enumerate().map(|(depth, node)| (waiting.start + node.index(), committed + depth));
        let moved: Vec<(usize, usize)> = places.filter(|(from, to)| from != to).collect();
        if moved.is_empty() {
            return Ok(());
        }
        let capacity = cache.capacity;
        let all = (0..buffers).flat_map(|buffer| {
            moved
                .iter()
                .map(move |&(from, to)| ((buffer * capacity + from) as i64, (buffer * capacity + to) as i64))
        });
        let (from, to): (Vec<i64>, Vec<i64>) = all.unzip();
        let run = || {
            let block = cache.block.as_ref().ok_or_else(|| no_block("keys and values"))?;
            device(&model)?.move_rows(&block.view(0, &[buffers * capacity, row])?, &from, &to)
        };
        run().map_err(failed("move accepted rows"))?;
        self.copied += (from.len() * (16 + 4 * row)) as u64;
        Ok(())
    }

    fn truncate(&mut self, seq: SeqId, _rows: usize) {
        if let Ok(cache) = self.cache(seq) {
            cache.waiting = None;
        }
    }

    fn copied(&self) -> u64 {
        self.copied
    }
}
