//! Keys, values and logits in the provider's memory.

use std::sync::{Arc, PoisonError};

use ort::value::{DynValue, Tensor, TensorRef};
use upcycle_core::{AcceptedRows, RowLayout, SeqId, Sequence, TopK, VerifyError};

use super::inputs::PassInputs;
use super::store::{KvStore, failed};
use crate::device::{Block, Device, Ranked, Run, View};
use crate::model::Model;
use crate::options::Memory;

/// The capacity of a cache at first, in rows.
const INITIAL_CAPACITY: usize = 256;

/// Caches in the provider's memory.
///
/// A cache is one block, `[buffers, capacity, row]`. A buffer holds the keys or the values of a layer. Its first rows are
/// committed, and the runtime reads them in place; it writes the rows of a pass after them. A commit copies the accepted rows,
/// and the next pass writes them to their place, so that an error of the device leaves every row as it was. Those of a chain are
/// in place already.
#[derive(Debug)]
pub(crate) struct DeviceMemory {
    caches: Vec<DeviceCache>,
    /// The logits of the last forward, `[rows, vocab]`, and the number of its rows.
    logits: Option<Block>,
    rows: usize,
    /// The row of logits that was read last.
    read: Option<DynValue>,
    /// Zeros as long as the longest past: no committed row is masked.
    past_bias: Option<Block>,
    /// Keys or values of the masked row that the runtime is given in place of an empty past.
    placeholder: Vec<f32>,
    copied_bytes: u64,
    /// Last, so that it outlives what was allocated with it.
    model: Arc<Model>,
}

#[derive(Debug)]
struct DeviceCache {
    seq: SeqId,
    block: Option<Block>,
    /// Rows of each buffer.
    capacity: usize,
    /// The rows of a commit that is being prepared.
    prepared: Option<Copies>,
    /// The rows of the last commit, until the next pass.
    unplaced: Option<Copies>,
}

/// Accepted rows of all buffers, `[buffers * rows, row]`, and where they go.
#[derive(Debug)]
struct Copies {
    rows: Block,
    /// The first slot.
    first: usize,
    /// Rows of a buffer.
    count: usize,
}

/// What a run of the graph reads and writes.
struct GraphRun<'a> {
    inputs: &'a PassInputs,
    committed: usize,
    /// The slot for the first new row.
    first_slot: usize,
    past_bias: Option<&'a Block>,
    placeholder: &'a [f32],
    logits: &'a View<'a>,
}

impl DeviceMemory {
    /// An empty store for a model whose [`device`](Model::device) is there.
    pub(crate) fn new(model: Arc<Model>) -> Self {
        let placeholder = vec![0.0; model.graph.row()];
        let (caches, logits, read, past_bias) = (Vec::new(), None, None, None);
        Self { caches, logits, rows: 0, read, past_bias, placeholder, copied_bytes: 0, model }
    }

    /// Extends the bias of the past to `committed` rows.
    fn extend_past_bias(&mut self, committed: usize) -> ort::Result<()> {
        if self.past_bias.as_ref().is_none_or(|block| block.len() < committed) {
            let len = committed.next_power_of_two();
            let block = device(&self.model)?.block(len)?;
            let zeros = Tensor::from_array(([len], vec![0.0_f32; len]))?;
            device(&self.model)?.copy(&zeros, &block.view(0, &[len])?)?;
            self.past_bias = Some(block);
        }
        Ok(())
    }

    /// The logits of row `index`, copied to host memory.
    fn read(&mut self, index: usize) -> ort::Result<&[f32]> {
        let vocab = self.model.vocab();
        let block = self.logits.as_ref().filter(|_| index < self.rows).ok_or_else(|| no_block("logits"))?;
        let row = device(&self.model)?.read(&block.view(index * vocab, &[vocab])?)?;
        Ok(self.read.insert(row).try_extract_tensor::<f32>()?.1)
    }
}

/// The device, which is there since [`DeviceMemory`] was made.
fn device(model: &Model) -> ort::Result<&Device> {
    model.device().map_err(|error| ort::Error::new(error.to_string()))
}

fn no_block(what: &str) -> ort::Error {
    ort::Error::new(format!("no {what} are allocated"))
}

impl DeviceCache {
    /// Raises the capacity of each buffer to `rows` rows, of which the first `live` are kept. It is doubled, but not beyond the
    /// model's context unless `rows` is.
    fn reserve(&mut self, model: &Model, rows: usize, live: usize) -> ort::Result<()> {
        if rows <= self.capacity {
            return Ok(());
        }
        let (buffers, row) = (model.past.len(), model.graph.row());
        let capacity = (2 * self.capacity).max(INITIAL_CAPACITY).min(model.max_context()).max(rows);
        let len = buffers.checked_mul(row).and_then(|len| len.checked_mul(capacity));
        let len = len.ok_or_else(|| ort::Error::new("the keys and values exceed the address space"))?;
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

    /// All rows, as one view, `[buffers * capacity, row]`.
    fn all_rows(&self, model: &Model) -> ort::Result<View<'_>> {
        let block = self.block.as_ref().ok_or_else(|| no_block("keys and values"))?;
        block.view(0, &[model.past.len() * self.capacity, model.graph.row()])
    }

    /// The indices of `slots` in every buffer, in the rows of [`all_rows`](Self::all_rows).
    fn indices(&self, model: &Model, slots: &[usize]) -> Vec<i64> {
        let firsts = (0..model.past.len()).map(|buffer| buffer * self.capacity);
        firsts.flat_map(|first| slots.iter().map(move |slot| (first + slot) as i64)).collect()
    }

    /// Copies the accepted rows that are not in place.
    fn copy(&self, model: &Model, rows: AcceptedRows<'_>) -> ort::Result<Option<Copies>> {
        // Where one row is out of place, all after it are.
        let mut moves = rows.moves().skip_while(|(from, to)| from == to).peekable();
        let Some(&(_, first)) = moves.peek() else { return Ok(None) };
        let slots: Vec<usize> = moves.map(|(from, _)| from).collect();
        let from = self.indices(model, &slots);
        let row = model.graph.row();
        let copies = device(model)?.block(from.len() * row)?;
        device(model)?.gather(&self.all_rows(model)?, &from, &copies.view(0, &[from.len(), row])?)?;
        Ok(Some(Copies { rows: copies, first, count: slots.len() }))
    }

    /// Writes the rows of the last commit to their place. May be repeated after an error.
    fn place(&mut self, model: &Model) -> ort::Result<()> {
        let Some(Copies { rows, first, count }) = &self.unplaced else { return Ok(()) };
        let to = self.indices(model, &(*first..first + count).collect::<Vec<_>>());
        let rows = rows.view(0, &[to.len(), model.graph.row()])?;
        device(model)?.scatter(&self.all_rows(model)?, &rows, &to)?;
        self.unplaced = None;
        Ok(())
    }

    /// Of each buffer `rows` rows, the first being `first_row`, `[rows, kv_heads, head_dim]`.
    fn views(&self, model: &Model, first_row: usize, rows: usize) -> ort::Result<Vec<View<'_>>> {
        let (row, shape) = (model.graph.row(), [rows, model.graph.kv_heads, model.graph.head_dim]);
        let block = self.block.as_ref().ok_or_else(|| no_block("keys and values"))?;
        let first = |buffer| (buffer * self.capacity + first_row) * row;
        (0..model.past.len()).map(|buffer| block.view(first(buffer), &shape)).collect()
    }

    /// Runs the graph.
    fn run(&self, model: &Model, run: &GraphRun<'_>) -> ort::Result<()> {
        let &GraphRun { inputs, committed, first_slot, past_bias, placeholder, logits } = run;
        let [tokens, positions, output_rows] = inputs.integer_tensors()?;
        let mask = inputs.mask_tensor()?;
        let new = self.views(model, first_slot, inputs.rows())?;
        let past = if committed > 0 { self.views(model, 0, committed)? } else { Vec::new() };
        let past_bias = match past_bias {
            Some(block) if committed > 0 => Some(block.view(0, &[committed])?),
            _ => None,
        };
        // The runtime needs a past of at least one row. This one is in host memory, and masked.
        let masked = TensorRef::from_array_view(([1_usize], &[f32::NEG_INFINITY][..]))?;
        let shape = [1, model.graph.kv_heads, model.graph.head_dim];
        let placeholder = TensorRef::from_array_view((shape, placeholder))?;
        let names = model.names();
        let mut run = Run::default();
        run.input(&names.input_ids, &tokens);
        run.input(&names.position_ids, &positions);
        run.input(&names.attn_bias, &mask);
        run.input(&names.past_bias, past_bias.as_ref().map_or(&masked, View::tensor));
        run.input(&names.output_rows, &output_rows);
        for (buffer, name) in names.past.iter().enumerate() {
            run.input(name, past.get(buffer).map_or(&placeholder, View::tensor));
        }
        run.output(&names.logits, logits);
        for (name, view) in names.new.iter().zip(&new) {
            run.output(name, view);
        }
        run.run(&mut model.session().lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl KvStore for DeviceMemory {
    fn memory(&self) -> Memory {
        Memory::Device
    }

    fn open(&mut self, seq: SeqId) {
        self.caches.push(DeviceCache { seq, block: None, capacity: 0, prepared: None, unplaced: None });
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
            // Frees the old block first, so that both need not fit.
            self.logits = None;
            let block = device(&self.model).and_then(|device| device.block(len));
            self.logits = Some(block.map_err(failed("reserve memory for logits"))?);
        }
        Ok(())
    }

    fn pass(&mut self, sequence: &Sequence<()>, inputs: &PassInputs) -> Result<(), VerifyError> {
        let (seq, committed) = (sequence.id(), sequence.committed());
        self.extend_past_bias(committed).map_err(failed("reserve memory for a mask"))?;
        let Self { model, caches, past_bias, placeholder, logits, .. } = self;
        let cache = caches.iter_mut().find(|cache| cache.seq == seq);
        let cache = cache.ok_or(VerifyError::UnknownSequence { seq })?;
        cache.place(model).map_err(failed("move accepted rows"))?;
        let first_slot = sequence.free_slot(inputs.rows());
        let reserved = cache.reserve(model, first_slot + inputs.rows(), sequence.occupied_slots());
        reserved.map_err(failed("reserve memory for keys and values"))?;
        let (vocab, output_rows) = (model.vocab(), inputs.output_rows());
        let run = || {
            let logits = logits.as_ref().ok_or_else(|| no_block("logits"))?;
            let logits = &logits.view(self.rows * vocab, &[output_rows, vocab])?;
            let past_bias = past_bias.as_ref();
            cache.run(model, &GraphRun { inputs, committed, first_slot, past_bias, placeholder, logits })
        };
        run().map_err(failed("run the graph"))?;
        self.rows += output_rows;
        self.copied_bytes += inputs.bytes();
        Ok(())
    }

    fn rank(&mut self, rows: &RowLayout, top: &mut TopK) -> Result<(), VerifyError> {
        if rows.is_empty() {
            return Ok(());
        }
        let doing = "rank logits";
        let vocab = self.model.vocab();
        let width = top.k().min(vocab);
        // One more than requested, to see a tie at the end.
        let k = (width + 1).min(vocab);
        let rank = || {
            let logits = self.logits.as_ref().ok_or_else(|| no_block("logits"))?;
            device(&self.model)?.rank(&logits.view(0, &[self.rows, vocab])?, k)
        };
        let ranked = rank().map_err(failed(doing))?;
        self.copied_bytes += Ranked::bytes(self.rows, k);
        let (mut pairs, mut ids, mut best) = (Vec::new(), Vec::new(), Vec::new());
        let ranked = ranked.rows().map_err(failed(doing))?;
        for (index, (row, ranked)) in rows.iter().zip(ranked).enumerate() {
            if !ranked.finite {
                return Err(VerifyError::NotFinite { row });
            }
            if top.wants_log_sum_exp() || !ranked.order(width, &mut pairs) {
                let logits = self.read(index).map_err(failed("read logits"))?;
                top.set_from_logits(row, logits)?;
                continue;
            }
            ids.clear();
            ids.extend(pairs.iter().map(|&(id, _)| id));
            best.clear();
            best.extend(pairs.iter().map(|&(_, logit)| logit));
            top.set_candidates(row, &ids, &best)?;
        }
        Ok(())
    }

    fn finish(&mut self, _seq: SeqId) {}

    fn logits(&mut self, index: usize) -> Result<&[f32], VerifyError> {
        self.read(index).map_err(failed("read logits"))
    }

    fn prepare(&mut self, rows: AcceptedRows<'_>) -> Result<(), VerifyError> {
        let Some(cache) = self.caches.iter_mut().find(|cache| cache.seq == rows.seq) else { return Ok(()) };
        cache.prepared = None;
        cache.prepared = cache.copy(&self.model, rows).map_err(failed("copy accepted rows"))?;
        Ok(())
    }

    fn keep(&mut self, rows: AcceptedRows<'_>) {
        let Some(cache) = self.caches.iter_mut().find(|cache| cache.seq == rows.seq) else { return };
        cache.unplaced = cache.prepared.take();
        if let Some(Copies { count, .. }) = cache.unplaced {
            let moved = count * self.model.past.len();
            self.copied_bytes += (moved * (16 + 4 * self.model.graph.row())) as u64;
        }
    }

    fn truncate(&mut self, _seq: SeqId, _len: usize) {}

    fn copied_bytes(&self) -> u64 {
        self.copied_bytes
    }
}
