//! Reads the tensors of a model in chunks of rows.

use std::collections::BTreeSet;

use upcycle_checkpoint::gguf::GgmlType;
use upcycle_checkpoint::{Architecture, Checkpoint, CheckpointError, TensorEntry, TensorIndex};
use upcycle_kernels::{Format, Matrix, PackError};

use super::error::ExportError;

/// Rows in a chunk. Bounds memory, and is a multiple of the kernels' tiles.
const CHUNK_ROWS: usize = 256;

/// The tensors of a model, and which of them are still unread.
#[derive(Debug)]
pub(crate) struct Tensors {
    index: TensorIndex,
    architecture: Architecture,
    /// Whether the head is the embedding.
    pub(crate) tied: bool,
    /// Whether queries, keys and values have a bias.
    pub(crate) biased: bool,
    unread: BTreeSet<String>,
}

/// The shape of a matrix.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MatrixShape {
    pub(crate) rows: usize,
    pub(crate) width: usize,
}

/// A chunk of rows of a matrix.
#[derive(Debug)]
pub(crate) struct RowChunk {
    /// The bytes in the file.
    pub(crate) bytes: Vec<u8>,
    /// The weights, `[rows, width]`.
    pub(crate) values: Vec<f32>,
}

fn format(dtype: GgmlType) -> Option<Format> {
    Format::ALL.into_iter().find(|format| format.name() == dtype.name())
}

impl Tensors {
    /// The tensors of a model.
    ///
    /// # Errors
    /// [`ExportError::Type`] if a type is not supported.
    pub(crate) fn new(checkpoint: Checkpoint) -> Result<Self, ExportError> {
        let Checkpoint { hyperparameters, tensors: index, tied, biased, .. } = checkpoint;
        for (_, tensor) in index.iter() {
            format(tensor.dtype).ok_or_else(|| ExportError::Type {
                tensor: tensor.name.clone(),
                found: tensor.dtype.name().to_owned(),
                known: Format::ALL.map(Format::name).join(", "),
            })?;
        }
        let unread = index.iter().map(|(name, _)| name.to_owned()).collect();
        Ok(Self { index, architecture: hyperparameters.architecture, tied, biased, unread })
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.index.has(name)
    }

    /// The type of a tensor, if it exists.
    pub(crate) fn format(&self, name: &str) -> Option<Format> {
        format(self.index.get(name)?.info().dtype)
    }

    /// The bytes and the elements of all tensors.
    pub(crate) fn sizes(&self) -> (u64, u64) {
        self.index.iter().fold((0, 0), |(bytes, elements), (_, tensor)| {
            (bytes + tensor.bytes, elements + tensor.elements())
        })
    }

    /// Checks that every tensor was read and that the files did not change meanwhile. An unread tensor means that the graph lacks
    /// a part of the model.
    ///
    /// # Errors
    /// [`CheckpointError::Changed`], [`CheckpointError::UnknownTensor`].
    pub(crate) fn check_all_read(&self) -> Result<(), CheckpointError> {
        self.index.check_unchanged()?;
        let Some(tensor) = self.unread.first() else { return Ok(()) };
        let (tensor, architecture) = (tensor.clone(), self.architecture.name());
        Err(CheckpointError::UnknownTensor { tensor, architecture })
    }

    /// Calls `take` with each chunk of a matrix.
    ///
    /// # Errors
    /// The tensor is missing, has another shape, cannot be read or contains a number that is not finite; or an error of `take`.
    pub(crate) fn for_each_chunk(
        &mut self,
        name: &str,
        shape: MatrixShape,
        take: &mut dyn FnMut(&RowChunk) -> Result<(), ExportError>,
    ) -> Result<(), ExportError> {
        self.unread.remove(name);
        let entry = self.index.find(name, &[shape.width, shape.rows])?;
        self.read(entry, shape, take)
    }

    /// The vector with this name and length.
    ///
    /// # Errors
    /// As [`for_each_chunk`](Self::for_each_chunk).
    pub(crate) fn vector(&mut self, name: &str, len: usize) -> Result<Vec<f32>, ExportError> {
        self.unread.remove(name);
        let entry = self.index.find(name, &[len])?;
        let mut values = Vec::new();
        self.read(entry, MatrixShape { rows: 1, width: len }, &mut |rows| {
            values.extend_from_slice(&rows.values);
            Ok(())
        })?;
        Ok(values)
    }

    fn read(
        &self,
        entry: &TensorEntry,
        shape: MatrixShape,
        take: &mut dyn FnMut(&RowChunk) -> Result<(), ExportError>,
    ) -> Result<(), ExportError> {
        let info = entry.info();
        // `new` has checked that the type is supported.
        let format = format(info.dtype).unwrap_or(Format::F32);
        let row_bytes = shape.width / format.block() * format.block_bytes();
        for first in (0..shape.rows).step_by(CHUNK_ROWS) {
            let here = CHUNK_ROWS.min(shape.rows - first);
            let mut bytes = vec![0; here * row_bytes];
            self.index.read_into(entry, (first * row_bytes) as u64, &mut bytes)?;
            let matrix =
                Matrix::pack(&info.name, format, (here, shape.width), &bytes, 1).map_err(pack_error)?;
            let mut values = vec![0.0; here * shape.width];
            for (row, out) in values.chunks_exact_mut(shape.width).enumerate() {
                matrix.gather(row, out);
            }
            take(&RowChunk { bytes, values })?;
        }
        Ok(())
    }
}

fn pack_error(error: PackError) -> ExportError {
    match error {
        // The row number counts within the chunk, so only the tensor is named.
        PackError::NotFinite { tensor, .. } => CheckpointError::NotFinite { tensor }.into(),
        other => other.into(),
    }
}
