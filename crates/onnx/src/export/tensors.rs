//! The tensors of a model while a graph is made of them: their rows as `f32` or as they are.

use std::collections::BTreeSet;

use upcycle_checkpoint::gguf::{Architecture, GgmlType};
use upcycle_checkpoint::{Checkpoint, CheckpointError, Entry, Source};
use upcycle_kernels::{Format, Matrix, PackError};

use crate::export::ExportError;

/// Rows that are read together: a bound on memory, and whole tiles for the kernels' reader.
const ROWS: usize = 256;

/// A model's tensors, and which of them were not read yet.
#[derive(Debug)]
pub(crate) struct Tensors {
    checkpoint: Checkpoint,
    architecture: Architecture,
    /// Whether the head is the embedding.
    pub(crate) tied: bool,
    /// Whether queries, keys and values have a bias.
    pub(crate) biased: bool,
    unread: BTreeSet<String>,
}

/// Some rows of a matrix.
#[derive(Debug)]
pub(crate) struct Rows {
    /// As they stand in the file.
    pub(crate) bytes: Vec<u8>,
    /// Their weights, `[rows, width]`.
    pub(crate) values: Vec<f32>,
}

fn format(dtype: GgmlType) -> Option<Format> {
    Format::ALL.into_iter().find(|format| format.name() == dtype.name())
}

impl Tensors {
    /// The tensors of a model, all of types that are read.
    pub(crate) fn new(source: Source) -> Result<Self, ExportError> {
        let Source { model, checkpoint, tied, biased, .. } = source;
        for (_, tensor) in checkpoint.tensors() {
            format(tensor.dtype).ok_or_else(|| ExportError::Type {
                tensor: tensor.name.clone(),
                found: tensor.dtype.name().to_owned(),
                known: Format::ALL.map(Format::name).join(", "),
            })?;
        }
        let unread = checkpoint.tensors().map(|(name, _)| name.to_owned()).collect();
        Ok(Self { checkpoint, architecture: model.architecture, tied, biased, unread })
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.checkpoint.has(name)
    }

    /// How a tensor that is there is stored.
    pub(crate) fn format(&self, name: &str) -> Option<Format> {
        format(self.checkpoint.get(name)?.info().dtype)
    }

    /// Bytes of all tensors, and their elements.
    pub(crate) fn sizes(&self) -> (u64, u64) {
        let tensors = self.checkpoint.tensors();
        tensors.fold((0, 0), |(bytes, elements), (_, tensor)| {
            (bytes + tensor.bytes, elements + tensor.elements())
        })
    }

    /// What was read is all of the files, as they were at the begin: a tensor that nothing reads would be an effect left
    /// out.
    pub(crate) fn check_all_read(&self) -> Result<(), CheckpointError> {
        self.checkpoint.check_unchanged()?;
        let Some(tensor) = self.unread.first() else { return Ok(()) };
        let (tensor, architecture) = (tensor.clone(), self.architecture.name());
        Err(CheckpointError::UnknownTensor { tensor, architecture })
    }

    /// Hands over the rows of the matrix `[rows, width]` of this name, some at a time.
    ///
    /// # Errors
    /// The tensor is missing, of another shape, cannot be read or holds a number that is not finite; what `take` refuses.
    pub(crate) fn each_rows(
        &mut self,
        name: &str,
        (rows, width): (usize, usize),
        take: &mut dyn FnMut(&Rows) -> Result<(), ExportError>,
    ) -> Result<(), ExportError> {
        self.unread.remove(name);
        let entry = self.checkpoint.find(name, &[width, rows])?;
        self.read(entry, (rows, width), take)
    }

    /// The vector of this name and length.
    ///
    /// # Errors
    /// As [`each_rows`](Self::each_rows).
    pub(crate) fn vector(&mut self, name: &str, len: usize) -> Result<Vec<f32>, ExportError> {
        self.unread.remove(name);
        let entry = self.checkpoint.find(name, &[len])?;
        let mut values = Vec::new();
        self.read(entry, (1, len), &mut |rows| {
            values.extend_from_slice(&rows.values);
            Ok(())
        })?;
        Ok(values)
    }

    fn read(
        &self,
        entry: &Entry,
        (rows, width): (usize, usize),
        take: &mut dyn FnMut(&Rows) -> Result<(), ExportError>,
    ) -> Result<(), ExportError> {
        let info = entry.info();
        // All types were found to be read.
        let format = format(info.dtype).unwrap_or(Format::F32);
        let row_bytes = width / format.block() * format.block_bytes();
        for first in (0..rows).step_by(ROWS) {
            let here = ROWS.min(rows - first);
            let mut bytes = vec![0; here * row_bytes];
            self.checkpoint.read_into(entry, (first * row_bytes) as u64, &mut bytes)?;
            let matrix = Matrix::pack(&info.name, format, (here, width), &bytes, 1).map_err(named)?;
            let mut values = vec![0.0; here * width];
            for (row, out) in values.chunks_exact_mut(width).enumerate() {
                matrix.gather(row, out);
            }
            take(&Rows { bytes, values })?;
        }
        Ok(())
    }
}

fn named(error: PackError) -> ExportError {
    match error {
        // Its row is one of those that are read together.
        PackError::NotFinite { tensor, .. } => CheckpointError::NotFinite { tensor }.into(),
        other => other.into(),
    }
}
