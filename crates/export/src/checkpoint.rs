//! Where the tensors of a model stand, and their rows as `f32` or as they are.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use upcycle_gguf::{GgmlType, Gguf};
use upcycle_kernels::{Format, Matrix};

use crate::ExportError;

/// Rows that are read together: a bound on memory, and whole tiles for the kernels' reader.
const ROWS: usize = 256;

/// A model's tensors, in its file.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    path: PathBuf,
    file: File,
    tensors: BTreeMap<String, Place>,
    unread: BTreeSet<String>,
}

/// Where a tensor stands.
#[derive(Clone, Debug)]
struct Place {
    offset: u64,
    format: Format,
    /// Outermost dimension first.
    shape: Vec<usize>,
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

impl Checkpoint {
    /// The tensors of a GGUF file.
    pub(crate) fn gguf(path: &Path, gguf: &Gguf) -> Result<Self, ExportError> {
        let file = File::open(path).map_err(|source| ExportError::Read { path: path.to_owned(), source })?;
        let mut tensors = BTreeMap::new();
        for tensor in gguf.tensors() {
            let format = format(tensor.dtype).ok_or_else(|| ExportError::Type {
                tensor: tensor.name.clone(),
                found: tensor.dtype.name().to_owned(),
                known: Format::ALL.map(Format::name).join(", "),
            })?;
            let shape = tensor.shape.iter().rev().map(|&dimension| dimension as usize).collect();
            tensors.insert(tensor.name.clone(), Place { offset: tensor.offset, format, shape });
        }
        let unread = tensors.keys().cloned().collect();
        Ok(Self { path: path.to_owned(), file, tensors, unread })
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// How a tensor that is there is stored.
    pub(crate) fn format(&self, name: &str) -> Option<Format> {
        Some(self.tensors.get(name)?.format)
    }

    /// The first tensor that was not read.
    pub(crate) fn unread(&self) -> Option<&str> {
        self.unread.first().map(String::as_str)
    }

    /// Bytes of all tensors.
    pub(crate) fn bytes(&self) -> u64 {
        let bytes = |place: &Place| {
            let elements: usize = place.shape.iter().product();
            (elements / place.format.block() * place.format.block_bytes()) as u64
        };
        self.tensors.values().map(bytes).sum()
    }

    fn find(&mut self, name: &str, expected: &[usize]) -> Result<Place, ExportError> {
        let Some(place) = self.tensors.get(name) else {
            let (tensor, count) = (name.to_owned(), self.tensors.len());
            let source = upcycle_gguf::GgufError::MissingTensor { tensor, count };
            return Err(ExportError::Gguf { path: self.path.clone(), source });
        };
        if place.shape != expected {
            let wide = |shape: &[usize]| shape.iter().map(|&dimension| dimension as u64).collect();
            let (expected, found) = (wide(expected), wide(&place.shape));
            return Err(ExportError::Shape { tensor: name.to_owned(), expected, found });
        }
        self.unread.remove(name);
        Ok(place.clone())
    }

    /// Hands over the rows of the matrix `[rows, width]` of this name, some at a time.
    ///
    /// # Errors
    /// The tensor is missing, of another shape or cannot be read; what `take` refuses.
    pub(crate) fn each_rows(
        &mut self,
        name: &str,
        (rows, width): (usize, usize),
        take: &mut dyn FnMut(&Rows) -> Result<(), ExportError>,
    ) -> Result<(), ExportError> {
        let place = self.find(name, &[rows, width])?;
        self.read(name, &place, (rows, width), take)
    }

    /// The vector of this name and length.
    ///
    /// # Errors
    /// As [`each_rows`](Self::each_rows).
    pub(crate) fn vector(&mut self, name: &str, len: usize) -> Result<Vec<f32>, ExportError> {
        let place = self.find(name, &[len])?;
        let mut values = Vec::new();
        self.read(name, &place, (1, len), &mut |rows| {
            values.extend_from_slice(&rows.values);
            Ok(())
        })?;
        Ok(values)
    }

    fn read(
        &mut self,
        name: &str,
        place: &Place,
        (rows, width): (usize, usize),
        take: &mut dyn FnMut(&Rows) -> Result<(), ExportError>,
    ) -> Result<(), ExportError> {
        let failed = |source| ExportError::Read { path: self.path.clone(), source };
        let row_bytes = width / place.format.block() * place.format.block_bytes();
        self.file.seek(SeekFrom::Start(place.offset)).map_err(failed)?;
        for first in (0..rows).step_by(ROWS) {
            let here = ROWS.min(rows - first);
            let mut bytes = vec![0; here * row_bytes];
            self.file.read_exact(&mut bytes).map_err(failed)?;
            let matrix = Matrix::pack(name, place.format, (here, width), &bytes, 1)?;
            let mut values = vec![0.0; here * width];
            for (row, out) in values.chunks_exact_mut(width).enumerate() {
                matrix.gather(row, out);
            }
            take(&Rows { bytes, values })?;
        }
        Ok(())
    }
}
