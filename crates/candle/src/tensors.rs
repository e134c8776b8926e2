//! Reading tensors of a model into matrices and vectors, each checked against what the model needs.

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::hint::black_box;

use candle_core::Device;
use candle_core::quantized::GgmlType as Block;
use candle_core::quantized::k_quants::{
    BlockQ2K, BlockQ3K, BlockQ4_0, BlockQ4_1, BlockQ4K, BlockQ5_0, BlockQ5_1, BlockQ5K, BlockQ6K, BlockQ8_0,
    BlockQ8_1, BlockQ8K,
};
use half::{bf16, f16};
use rayon::ThreadPool;
use rayon::prelude::*;
use upcycle_checkpoint::gguf::{GgmlType, TensorInfo};
use upcycle_checkpoint::{Checkpoint, CheckpointError, Entry};
use upcycle_kernels::{Matrix as Packed, PackError};

use crate::activations::{Lhs, check_finite};
use crate::dense::Dense;
use crate::device::{self, Linear};
use crate::mapped::{Mapped, MappedSlice, Plain};
use crate::product::{Blocks, Matrix, Storage};
use crate::{LoadError, Weights};

/// The types that candle has blocks of.
const KNOWN: [GgmlType; 15] = [
    GgmlType::F32,
    GgmlType::F16,
    GgmlType::Bf16,
    GgmlType::Q4_0,
    GgmlType::Q4_1,
    GgmlType::Q5_0,
    GgmlType::Q5_1,
    GgmlType::Q8_0,
    GgmlType::Q8_1,
    GgmlType::Q2K,
    GgmlType::Q3K,
    GgmlType::Q4K,
    GgmlType::Q5K,
    GgmlType::Q6K,
    GgmlType::Q8K,
];

/// Bytes of a tensor that is read into memory that others were read into before.
///
/// Larger ones get memory of their own for as long as they are packed: what is kept would come on top of the model.
const BUFFER: usize = 24 << 20;

/// Calls `$self.$method::<block type>(arguments)` for the block type of `$info`, of the quantized ones and those named.
macro_rules! by_type {
    ($info:expr, $self:ident.$method:ident $arguments:tt $(, $more:ident: $type:ty)*) => {
        match $info.dtype {
            GgmlType::Q4_0 => $self.$method::<BlockQ4_0>$arguments,
            GgmlType::Q4_1 => $self.$method::<BlockQ4_1>$arguments,
            GgmlType::Q5_0 => $self.$method::<BlockQ5_0>$arguments,
            GgmlType::Q5_1 => $self.$method::<BlockQ5_1>$arguments,
            GgmlType::Q8_0 => $self.$method::<BlockQ8_0>$arguments,
            GgmlType::Q8_1 => $self.$method::<BlockQ8_1>$arguments,
            GgmlType::Q2K => $self.$method::<BlockQ2K>$arguments,
            GgmlType::Q3K => $self.$method::<BlockQ3K>$arguments,
            GgmlType::Q4K => $self.$method::<BlockQ4K>$arguments,
            GgmlType::Q5K => $self.$method::<BlockQ5K>$arguments,
            GgmlType::Q6K => $self.$method::<BlockQ6K>$arguments,
            GgmlType::Q8K => $self.$method::<BlockQ8K>$arguments,
            $(GgmlType::$more => $self.$method::<$type>$arguments,)*
            found => Err(LoadError::Type {
                tensor: $info.name.clone(),
                found,
                known: KNOWN.map(GgmlType::name).join(", "),
            }),
        }
    };
}

/// The tensors of a model's files while a model is made of them.
pub(crate) struct Tensors<'a> {
    checkpoint: &'a Checkpoint,
    /// Its files, each mapped once something of it stays there.
    maps: Vec<OnceCell<Mapped>>,
    weights: Weights,
    threads: &'a ThreadPool,
    /// By their names in GGUF files.
    unread: BTreeSet<&'a str>,
    /// Where tensors that fit are read to, so that the system need not find memory for each.
    buffer: Vec<u8>,
    progress: &'a mut dyn FnMut(u64, u64),
    done: u64,
    total: u64,
    /// No weight that went to a device is larger; infinite where one is not finite.
    largest: f32,
}

impl<'a> Tensors<'a> {
    pub(crate) fn new(
        checkpoint: &'a Checkpoint,
        weights: Weights,
        threads: &'a ThreadPool,
        progress: &'a mut dyn FnMut(u64, u64),
    ) -> Self {
        let unread = checkpoint.tensors().map(|(name, _)| name).collect();
        let total = checkpoint.tensors().map(|(_, tensor)| tensor.bytes).sum();
        progress(0, total);
        let maps = checkpoint.files().iter().map(|_| OnceCell::new()).collect();
        let buffer = vec![0; BUFFER];
        Self { checkpoint, maps, weights, threads, unread, buffer, progress, done: 0, total, largest: 0.0 }
    }

    /// The mapped file that a tensor lies in.
    fn map(&self, entry: &Entry) -> Result<&Mapped, LoadError> {
        let (file, map) = (&self.checkpoint.files()[entry.file()], &self.maps[entry.file()]);
        if let Some(map) = map.get() {
            return Ok(map);
        }
        let mapped = Mapped::of_file(file.file()).map_err(|source| file.error(source))?;
        // A part that is gone would end the process when it is looked at.
        file.check_unchanged()?;
        Ok(map.get_or_init(|| mapped))
    }

    /// The bytes of a tensor, in memory of their own.
    fn copy(&self, entry: &Entry) -> Result<Mapped, LoadError> {
        let TensorInfo { name, bytes, .. } = entry.info();
        let memory = || LoadError::Memory { tensor: name.clone(), bytes: *bytes };
        let len = usize::try_from(*bytes).map_err(|_| memory())?;
        Mapped::filled(len, |_| memory(), |bytes| Ok(self.checkpoint.read_into(entry, 0, bytes)?))
    }

    /// What no weight of a [resident](Self::resident) matrix or of a [vector](Self::vector) exceeds; infinite where one is not finite.
    pub(crate) fn largest(&self) -> f32 {
        self.largest
    }

    /// The first tensor that was not read.
    pub(crate) fn unread(&self) -> Option<&'a str> {
        self.unread.first().copied()
    }

    /// Whether there is a tensor of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.checkpoint.has(name)
    }

    /// Notes that a tensor was read.
    fn read(&mut self, name: &str, info: &TensorInfo) {
        // A tied head is read twice where it lies apart from the embedding.
        if self.unread.remove(name) {
            self.done += info.bytes;
            (self.progress)(self.done, self.total);
        }
    }

    /// The matrix `[outputs, inputs]` of this name, to be multiplied with.
    pub(crate) fn matrix(
        &mut self,
        name: &str,
        inputs: usize,
        outputs: usize,
    ) -> Result<Box<dyn Matrix>, LoadError> {
        let entry = self.checkpoint.find(name, &[inputs, outputs])?;
        let info = entry.info();
        let plain = matches!(info.dtype, GgmlType::F16 | GgmlType::Bf16);
        let wide = plain || self.weights == Weights::F32 && info.dtype != GgmlType::F32;
        let matrix: Box<dyn Matrix> = if wide {
            let values = by_type!(info, self.widen(entry, inputs), F32: f32, F16: f16, Bf16: bf16)?;
            Box::new(Dense::new(outputs, inputs, Storage::Memory(values)))
        } else if info.dtype == GgmlType::F32 {
            let storage = match self.blocks(entry) {
                Ok(values) => Storage::File(values),
                Err(LoadError::Misaligned { .. }) => Storage::Memory(self.widen::<f32>(entry, inputs)?),
                Err(error) => return Err(error),
            };
            Box::new(Dense::new(outputs, inputs, storage))
        } else {
            by_type!(info, self.in_place(entry, inputs, outputs))?
        };
        self.read(name, info);
        Ok(matrix)
    }

    /// The matrix `[outputs, inputs]` of this name, of which single rows are read.
    pub(crate) fn table(
        &mut self,
        name: &str,
        inputs: usize,
        outputs: usize,
    ) -> Result<Box<dyn Matrix>, LoadError> {
        let weights = std::mem::replace(&mut self.weights, Weights::File);
        let table = self.matrix(name, inputs, outputs);
        self.weights = weights;
        table
    }

    /// The matrix `[outputs, inputs]` of this name as `pack` makes it of its type and bytes: the file's own, or `f32`.
    ///
    /// # Errors
    /// As [`matrix`](Self::matrix); a type that `pack` has no answer to; what `pack` refuses.
    pub(crate) fn packed(
        &mut self,
        name: &str,
        inputs: usize,
        outputs: usize,
        pack: impl FnOnce(GgmlType, &[u8]) -> Option<Result<Packed, PackError>>,
    ) -> Result<Packed, LoadError> {
        let entry = self.checkpoint.find(name, &[inputs, outputs])?;
        let info = entry.info();
        let widen = self.weights == Weights::F32 && info.dtype != GgmlType::F32;
        let packed = if widen {
            let values = by_type!(info, self.widen(entry, inputs), F32: f32, F16: f16, Bf16: bf16)?;
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            pack(GgmlType::F32, &bytes)
        } else {
            match self.buffer.get_mut(..info.bytes as usize) {
                Some(bytes) => {
                    self.checkpoint.read_into(entry, 0, bytes)?;
                    pack(info.dtype, bytes)
                }
                None => pack(info.dtype, self.copy(entry)?.bytes()),
            }
        };
        let unknown = || LoadError::Kernels { reason: format!("tensor `{}` is {}", info.name, info.dtype) };
        let packed = packed.ok_or_else(unknown)?.map_err(|source| LoadError::Pack { source })?;
        self.read(name, info);
        Ok(packed)
    }

    /// The matrix `[outputs, inputs]` of this name on a device: the file's own blocks where candle multiplies with them there,
    /// else `f32`.
    pub(crate) fn resident(
        &mut self,
        name: &str,
        inputs: usize,
        outputs: usize,
        device: &Device,
    ) -> Result<Linear, LoadError> {
        let entry = self.checkpoint.find(name, &[inputs, outputs])?;
        let info = entry.info();
        let shape = (outputs, inputs);
        let (linear, largest) = match device::blocks(info.dtype) {
            Some(dtype) if self.weights == Weights::File => {
                let bytes = self.copy(entry)?;
                let largest = device::largest_of_blocks(dtype, bytes.bytes());
                (Linear::of_blocks(dtype, bytes.bytes(), shape, device), largest)
            }
            _ => {
                let values = by_type!(info, self.widen(entry, inputs), F32: f32, F16: f16, Bf16: bf16)?;
                let largest = device::largest(values.iter().copied());
                (Linear::of_values(values, shape, device), largest)
            }
        };
        self.largest = self.largest.max(largest);
        let linear = linear.map_err(|source| LoadError::OnDevice { source })?;
        self.read(name, info);
        Ok(linear)
    }

    /// The vector of this name and length as `f32`.
    pub(crate) fn vector(&mut self, name: &str, len: usize) -> Result<Vec<f32>, LoadError> {
        let entry = self.checkpoint.find(name, &[len])?;
        let info = entry.info();
        let values = by_type!(info, self.widen(entry, len), F32: f32, F16: f16, Bf16: bf16)?;
        if check_finite(&values, len).is_err() {
            return Err(CheckpointError::NotFinite { tensor: info.name.clone() }.into());
        }
        self.largest = self.largest.max(device::largest(values.iter().copied()));
        self.read(name, info);
        Ok(values)
    }

    /// The blocks of a tensor, in the mapped file.
    fn blocks<T: Plain + Block>(&self, entry: &Entry) -> Result<MappedSlice<T>, LoadError> {
        let (info, file) = (entry.info(), self.map(entry)?);
        let (offset, bytes) = (info.offset as usize, info.bytes as usize);
        let blocks = file.values::<T>(offset, bytes / size_of::<T>()).ok_or_else(|| misaligned(info))?;
        // Every page is read once, so that the first pass does not wait for the disk.
        let pages = file.bytes()[offset..][..bytes].iter().step_by(4096);
        black_box(pages.fold(0_u8, |sum, byte| sum ^ byte));
        Ok(blocks)
    }

    /// The matrix whose blocks stay in the file.
    fn in_place<T>(&self, entry: &Entry, inputs: usize, outputs: usize) -> Result<Box<dyn Matrix>, LoadError>
    where
        T: Plain + Block + std::fmt::Debug,
        T::VecDotType: Lhs,
    {
        let info = entry.info();
        let pairs = matches!(info.dtype, GgmlType::Q4_1 | GgmlType::Q5_0 | GgmlType::Q5_1);
        let multiple = 2 * info.dtype.block_size();
        if pairs && !(inputs as u64).is_multiple_of(multiple) {
            let (tensor, dtype) = (info.name.clone(), info.dtype);
            return Err(LoadError::OddBlocks { tensor, dtype, multiple, found: inputs as u64 });
        }
        let blocks = self.blocks::<T>(entry)?;
        Ok(Box::new(Blocks::<T>::new(outputs, inputs, Storage::File(blocks))))
    }

    /// All values of a tensor as `f32`, rows of `width` in parallel.
    fn widen<T: Plain + Block>(&self, entry: &Entry, width: usize) -> Result<Vec<f32>, LoadError> {
        let info = entry.info();
        let len = info.elements() as usize;
        let mut values = Vec::new();
        if values.try_reserve_exact(len).is_err() {
            return Err(LoadError::Memory { tensor: info.name.clone(), bytes: 4 * len as u64 });
        }
        let bytes = self.copy(entry)?;
        let blocks = bytes.values::<T>(0, bytes.bytes().len() / size_of::<T>());
        let blocks = blocks.ok_or_else(|| misaligned(info))?;
        values.resize(len, 0.0);
        let rows =
            blocks.get().par_chunks_exact(width / T::BLCK_SIZE).zip(values.par_chunks_exact_mut(width));
        self.threads.install(|| rows.for_each(|(blocks, row)| T::to_float(blocks, row)));
        Ok(values)
    }
}

fn misaligned(info: &TensorInfo) -> LoadError {
    LoadError::Misaligned { tensor: info.name.clone(), dtype: info.dtype, offset: info.offset }
}
