//! Work on the provider's memory: sessions that move rows, rank logits and copy them to the host.
//!
//! Each session has its own stream on the device. Every run ends by waiting for its stream, so that later runs of other
//! sessions see what it wrote.

mod graphs;
mod raw;

use std::cmp::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ort::memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType};
use ort::session::Session;
use ort::session::builder::GraphOptimizationLevel;
use ort::value::{DynValue, Tensor, TensorRef};
use upcycle_core::TokenId;
use upcycle_onnx::layout::LOGITS;

use crate::error::LoadError;
use crate::library::Runtime;
use crate::options::{Options, Provider};
use crate::providers;

pub(crate) use raw::{Block, Run, View};

/// The sessions of one provider.
#[derive(Debug)]
pub(crate) struct Device {
    tools: Mutex<Tools>,
}

#[derive(Debug)]
struct Tools {
    /// Allocates the provider's own memory.
    allocator: Allocator,
    copy: Session,
    gather: Session,
    scatter: Session,
    rank: Session,
}

/// Ranked rows, in host memory.
#[derive(Debug)]
pub(crate) struct Ranked {
    best: DynValue,
    ids: DynValue,
    faults: DynValue,
    k: usize,
}

/// One ranked row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RankedRow<'a> {
    /// The highest logits, falling, `[k]`.
    pub(crate) best: &'a [f32],
    /// Their ids, `[k]`. Equal logits are in any order.
    pub(crate) ids: &'a [i64],
    /// Whether every logit of the row is finite.
    pub(crate) finite: bool,
}

impl Device {
    /// Makes the sessions, for rows of `vocab` logits.
    ///
    /// # Errors
    /// [`LoadError::Device`] if the provider does not start again or refuses a graph.
    pub(crate) fn new(
        runtime: &Runtime,
        options: &Options,
        provider: Provider,
        vocab: usize,
    ) -> Result<Self, LoadError> {
        let refused =
            |error: ort::Error| LoadError::Device { provider: provider.name(), reason: error.to_string() };
        // Threads would have nothing to do on a device.
        let options = Options {
            providers: vec![provider],
            fallback: false,
            intra_threads: None,
            profiling: None,
            ..options.clone()
        };
        let session = |graph: &[u8]| {
            let configure = || {
                let builder = Session::builder(&runtime.environment)?
                    .with_intra_threads(1)?
                    .with_inter_threads(1)?
                    // Lengths vary, and the runtime would keep a pattern for each.
                    .with_memory_pattern(false)?
                    // The optimizer would remove the copy.
                    .with_optimization_level(GraphOptimizationLevel::Disable)?;
                Ok(builder)
            };
            let builder = configure().map_err(refused)?;
            let (mut builder, _) = providers::register(builder, &options, &runtime.path)?;
            builder.commit_from_memory(graph).map_err(refused)
        };
        let copy = session(&graphs::copy())?;
        let allocator = memory(provider, &options).and_then(|memory| Allocator::new(&copy, memory));
        let tools = Tools {
            allocator: allocator.map_err(refused)?,
            copy,
            gather: session(&graphs::gather())?,
            scatter: session(&graphs::scatter())?,
            rank: session(&graphs::rank(vocab))?,
        };
        Ok(Self { tools: Mutex::new(tools) })
    }

    fn tools(&self) -> MutexGuard<'_, Tools> {
        self.tools.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Allocates `len` elements.
    pub(crate) fn block(&self, len: usize) -> ort::Result<Block> {
        Block::new(&self.tools().allocator, len)
    }

    /// Copies a tensor in host or device memory to a view of the same length.
    pub(crate) fn copy(&self, numbers: &Tensor<f32>, to: &View<'_>) -> ort::Result<()> {
        let mut run = Run::default();
        run.input(c"numbers", numbers);
        run.output(c"copied", to);
        run.run(&mut self.tools().copy)
    }

    /// Copies a view to host memory.
    pub(crate) fn read(&self, numbers: &View<'_>) -> ort::Result<DynValue> {
        let mut tools = self.tools();
        let mut outputs = tools.copy.run(ort::inputs!["numbers" => numbers.tensor()])?;
        take(&mut outputs, "copied")
    }

    /// Copies the rows `from` of a buffer, `[rows, row]`, to `kept`, `[from.len(), row]`.
    pub(crate) fn gather(&self, buffer: &View<'_>, from: &[i64], kept: &View<'_>) -> ort::Result<()> {
        let from = TensorRef::from_array_view(([from.len()], from))?;
        let mut run = Run::default();
        run.input(c"buffer", buffer.tensor());
        run.input(c"from", &from);
        run.output(c"kept", kept);
        run.run(&mut self.tools().gather)
    }

    /// Writes `kept`, `[to.len(), row]`, to the rows `to` of a buffer, `[rows, row]`, in place.
    pub(crate) fn scatter(&self, buffer: &View<'_>, kept: &View<'_>, to: &[i64]) -> ort::Result<()> {
        let to = TensorRef::from_array_view(([to.len(), 1], to))?;
        let mut run = Run::default();
        run.input(c"buffer", buffer.tensor());
        run.input(c"to", &to);
        run.input(c"kept", kept.tensor());
        run.output(c"placed", buffer);
        run.run(&mut self.tools().scatter)
    }

    /// The `k` best of each row of logits, `[rows, vocab]`.
    pub(crate) fn rank(&self, logits: &View<'_>, k: usize) -> ort::Result<Ranked> {
        let width = [k as i64];
        let width = TensorRef::from_array_view(([1_usize], &width[..]))?;
        let mut tools = self.tools();
        let mut outputs = tools.rank.run(ort::inputs![LOGITS => logits.tensor(), "k" => width])?;
        Ok(Ranked {
            best: take(&mut outputs, "best")?,
            ids: take(&mut outputs, "ids")?,
            faults: take(&mut outputs, "faults")?,
            k,
        })
    }
}

impl RankedRow<'_> {
    /// Writes the `width` best to `pairs`, by falling logit, ties by rising id. False if a tie crosses the end: the device has
    /// then left out candidates of its choice, and the whole row must be ranked.
    pub(crate) fn order(&self, width: usize, pairs: &mut Vec<(TokenId, f32)>) -> bool {
        let border = self.best.get(width.saturating_sub(1)..width + 1);
        if border.is_some_and(|border| border[0] == border[1]) {
            return false;
        }
        pairs.clear();
        pairs.extend(self.ids.iter().map(|&id| id as TokenId).zip(self.best.iter().copied()).take(width));
        // 0 and -0 are equal.
        pairs.sort_by(|a, b| b.1.partial_cmp(&a.1).unwrap_or(Ordering::Equal).then(a.0.cmp(&b.0)));
        true
    }
}

impl Ranked {
    /// The rows, in their order.
    pub(crate) fn rows(&self) -> ort::Result<impl Iterator<Item = RankedRow<'_>>> {
        let best = self.best.try_extract_tensor::<f32>()?.1.chunks_exact(self.k);
        let ids = self.ids.try_extract_tensor::<i64>()?.1.chunks_exact(self.k);
        let faults = self.faults.try_extract_tensor::<f32>()?.1;
        let rows = best.zip(ids).zip(faults);
        Ok(rows.map(|((best, ids), fault)| RankedRow { best, ids, finite: fault.is_finite() }))
    }

    /// The bytes returned from the device.
    pub(crate) fn bytes(rows: usize, k: usize) -> u64 {
        (rows * (12 * k + 4)) as u64
    }
}

fn take(outputs: &mut ort::session::SessionOutputs<'_>, name: &str) -> ort::Result<DynValue> {
    outputs.remove(name).ok_or_else(|| ort::Error::new(format!("the graph returned no output `{name}`")))
}

/// The provider's own memory.
fn memory(provider: Provider, options: &Options) -> ort::Result<MemoryInfo<'static>> {
    let (device, id) = match provider {
        Provider::Cuda => {
            // The provider has refused any value that is not a number.
            let id = options.provider_option(provider, "device_id").and_then(|id| id.parse().ok());
            (AllocationDevice::CUDA, id.unwrap_or(0))
        }
        _ => (AllocationDevice::CPU, 0),
    };
    MemoryInfo::new(device, id, AllocatorType::Device, MemoryType::Default)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Fallible = Result<(), Box<dyn std::error::Error>>;

    fn device(vocab: usize) -> Result<Device, LoadError> {
        let options = Options::default();
        Device::new(&Runtime::get(&options)?, &options, Provider::Cpu, vocab)
    }

    /// A block with this content.
    fn filled(device: &Device, numbers: &[f32]) -> ort::Result<Block> {
        let block = device.block(numbers.len())?;
        let numbers = Tensor::from_array(([numbers.len()], numbers.to_vec()))?;
        device.copy(&numbers, &block.view(0, &[block.len()])?)?;
        Ok(block)
    }

    #[test]
    fn a_view_reads_any_part_of_a_block_and_nothing_outside() -> Fallible {
        let device = device(4)?;
        let numbers: Vec<f32> = (0..40).map(|x| x as f32).collect();
        let block = filled(&device, &numbers)?;
        let read = device.read(&block.view(7, &[30])?)?;
        assert_eq!(read.try_extract_tensor::<f32>()?.1, &numbers[7..37]);
        for (offset, shape) in [(11, [30, 1]), (41, [0, 1]), (0, [usize::MAX, 2]), (usize::MAX, [1, 1])] {
            assert!(block.view(offset, &shape).is_err(), "{shape:?} from {offset} on");
        }
        Ok(())
    }

    #[test]
    fn rows_are_copied_and_written_over_each_other() -> Fallible {
        let device = device(4)?;
        let numbers: Vec<f32> = (0..30).map(|x| x as f32).collect();
        let block = filled(&device, &numbers)?;
        let (all, kept) = (block.view(0, &[10, 3])?, device.block(12)?);
        device.gather(&all, &[3, 4, 5, 9], &kept.view(0, &[4, 3])?)?;
        // Writing may be repeated.
        for _ in 0..2 {
            device.scatter(&all, &kept.view(0, &[4, 3])?, &[2, 3, 4, 5])?;
        }
        let read = device.read(&block.view(0, &[30])?)?;
        let rows: Vec<f32> = read.try_extract_tensor::<f32>()?.1.iter().step_by(3).copied().collect();
        assert_eq!(rows, [0, 1, 3, 4, 5, 9, 6, 7, 8, 9].map(|row| (3 * row) as f32));
        Ok(())
    }

    #[test]
    fn a_row_that_is_not_finite_is_found_wherever_the_fault_is() -> Fallible {
        let vocab = 70;
        let device = device(vocab)?;
        let faults = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
        for (place, fault) in (0..vocab).flat_map(|place| faults.map(|fault| (place, fault))) {
            let mut logits: Vec<f32> = (0..3 * vocab).map(|at| (at * 31 % 17) as f32 * 1e30).collect();
            logits[vocab + place] = fault;
            let block = filled(&device, &logits)?;
            let ranked = device.rank(&block.view(0, &[3, vocab])?, 5)?;
            let finite: Vec<bool> = ranked.rows()?.map(|row| row.finite).collect();
            assert_eq!(finite, [true, false, true], "{fault} at {place}");
        }
        Ok(())
    }

    #[test]
    fn a_tie_is_ordered_unless_it_crosses_the_end() {
        let mut pairs = Vec::new();
        let row = RankedRow { best: &[3.0, 2.0, 2.0, 2.0, 1.0], ids: &[4, 9, 7, 8, 1], finite: true };
        assert!(row.order(4, &mut pairs));
        assert_eq!(pairs, [(4, 3.0), (7, 2.0), (8, 2.0), (9, 2.0)]);
        assert!(row.order(1, &mut pairs));
        assert_eq!(pairs, [(4, 3.0)]);
        assert!(!row.order(2, &mut pairs) && !row.order(3, &mut pairs));
        // A vocabulary of five has no further tokens.
        assert!(row.order(5, &mut pairs) && pairs.len() == 5);
        let zeros = RankedRow { best: &[0.0, -0.0], ids: &[6, 5], finite: true };
        assert!(zeros.order(2, &mut pairs));
        assert_eq!([pairs[0].0, pairs[1].0], [5, 6]);
    }
}
