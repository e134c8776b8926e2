//! Products with weights: how a matrix stands in the data file, and the nodes that multiply with it.

use std::path::PathBuf;

use crate::schema::Element;
use half::f16;

use crate::export::data::{DataFile, bytes_of};
use crate::export::graph::{Builder, Value};
use crate::export::nbits::{Bits, Blocks, has_shift, is_taken_over};
use crate::export::tensors::Tensors;
use crate::export::{ExportError, Options, Weights};

/// A graph and its weights as they are written.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) source: Tensors,
    pub(crate) graph: Builder,
    pub(crate) data: DataFile,
    pub(crate) path: PathBuf,
    pub(crate) options: Options,
}

/// A matrix whose rows are those of several tensors, one after the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matrix<'a> {
    /// The name of the product.
    pub(crate) name: &'a str,
    /// Each tensor with its rows.
    pub(crate) parts: &'a [(String, usize)],
    /// Elements of a row.
    pub(crate) width: usize,
}

impl Matrix<'_> {
    fn rows(&self) -> usize {
        self.parts.iter().map(|(_, rows)| rows).sum()
    }
}

/// As the operator counts: activations are rounded to int8.
const ACCURACY_LEVEL: i64 = 4;

impl Writer {
    fn written<T>(&self, result: std::io::Result<T>) -> Result<T, ExportError> {
        result.map_err(|source| ExportError::Write { path: self.path.clone(), source })
    }

    /// Writes a constant of numbers that are at hand.
    pub(crate) fn constant(
        &mut self,
        name: &str,
        dims: &[usize],
        values: &[f32],
    ) -> Result<String, ExportError> {
        let start = self.data.start();
        self.written(start)?;
        let write = self.data.write(&bytes_of(values));
        self.written(write)?;
        self.graph.initializer(self.data.end(name, Element::Float, dims));
        Ok(name.to_owned())
    }

    /// Writes a vector of the file under its own name.
    pub(crate) fn vector(&mut self, name: &str, len: usize) -> Result<String, ExportError> {
        let values = self.source.vector(name, len)?;
        self.constant(name, &[len], &values)
    }

    /// The product of `input`, `[n, width]`, with a matrix: `[n, rows]`, under the matrix's name.
    pub(crate) fn product(&mut self, matrix: Matrix<'_>, input: &str) -> Result<String, ExportError> {
        match self.options.weights {
            Weights::F32 | Weights::F16 => {
                let weights = self.dense(matrix)?;
                Ok(self.gemm(matrix.name, input, &weights))
            }
            Weights::Int8 => self.few_bits(matrix, input, Bits::Eight),
            Weights::Int4 => self.few_bits(matrix, input, Bits::Four),
        }
    }

    /// As [`product`](Self::product), for the last one: its rounding is heard at once, so four bits are only taken where the
    /// file has no more.
    pub(crate) fn head(&mut self, matrix: Matrix<'_>, input: &str) -> Result<String, ExportError> {
        let four = matrix.parts.iter().all(|(name, _)| {
            self.source
                .format(name)
                .is_some_and(|format| is_taken_over(format, Bits::Four, self.options.block))
        });
        match self.options.weights {
            Weights::Int4 if !four => self.few_bits(matrix, input, Bits::Eight),
            _ => self.product(matrix, input),
        }
    }

    /// `input` times the transposed matrix `weights`.
    pub(crate) fn gemm(&mut self, name: &str, input: &str, weights: &str) -> String {
        self.graph.node("Gemm", name, &[input, weights], &[("transB", Value::Int(1))])
    }

    /// Writes a matrix, `[rows, width]`, in full; the name of its `f32` form.
    pub(crate) fn dense(&mut self, matrix: Matrix<'_>) -> Result<String, ExportError> {
        let name = format!("{}.weight", matrix.name);
        let half = self.options.weights == Weights::F16;
        let (data, path) = (&mut self.data, &self.path);
        let written = |source| ExportError::Write { path: path.clone(), source };
        data.start().map_err(written)?;
        for (tensor, rows) in matrix.parts {
            self.source.each_rows(tensor, (*rows, matrix.width), &mut |rows| {
                let bytes = match half {
                    true => halves(tensor, &rows.values)?,
                    false => bytes_of(&rows.values),
                };
                data.write(&bytes).map_err(written)
            })?;
        }
        let element = if half { Element::Float16 } else { Element::Float };
        let stored = if half { format!("{name}.half") } else { name.clone() };
        self.graph.initializer(data.end(&stored, element, &[matrix.rows(), matrix.width]));
        if half {
            let float = Value::Int(i32::from(Element::Float).into());
            self.graph.node("Cast", &name, &[&stored], &[("to", float)]);
        }
        Ok(name)
    }

    /// The product with a matrix in blocks.
    fn few_bits(&mut self, matrix: Matrix<'_>, input: &str, bits: Bits) -> Result<String, ExportError> {
        let Matrix { name, parts, width } = matrix;
        let block = self.options.block;
        if !width.is_multiple_of(block) {
            return Err(ExportError::Block { tensor: parts[0].0.clone(), width, block });
        }
        let (rows, blocks) = (matrix.rows(), width / block);
        let shifted = parts.iter().any(|(name, _)| {
            let format = self.source.format(name);
            format.is_some_and(|format| has_shift(format) && is_taken_over(format, bits, block))
        });
        let (data, path) = (&mut self.data, &self.path);
        let written = |source| ExportError::Write { path: path.clone(), source };
        data.start().map_err(written)?;
        let (mut scales, mut shifts) = (Vec::new(), Vec::new());
        for (tensor, rows) in parts {
            let taken = self.source.format(tensor).filter(|&format| is_taken_over(format, bits, block));
            self.source.each_rows(tensor, (*rows, width), &mut |rows| {
                let mut blocks = Blocks::default();
                match taken {
                    Some(format) => blocks.take_over(format, &rows.bytes),
                    None => blocks.round(&rows.values, bits, block),
                }
                blocks.pad_shifts();
                scales.append(&mut blocks.scales);
                shifts.append(&mut blocks.shifts);
                data.write(&blocks.quants).map_err(written)
            })?;
        }
        let quants = format!("{name}.quants");
        let bytes = block * bits.count() / 8;
        self.graph.initializer(data.end(&quants, Element::Uint8, &[rows, blocks, bytes]));
        let scales = self.constant(&format!("{name}.scales"), &[rows * blocks], &scales)?;
        let attributes = [
            ("K", Value::Int(width as i64)),
            ("N", Value::Int(rows as i64)),
            ("bits", Value::Int(bits.count() as i64)),
            ("block_size", Value::Int(block as i64)),
            ("accuracy_level", Value::Int(ACCURACY_LEVEL)),
        ];
        if !shifted {
            return Ok(self.graph.node("MatMulNBits", name, &[input, &quants, &scales], &attributes));
        }
        let middle = format!("{name}.middle");
        self.graph.node("MatMulNBits", &middle, &[input, &quants, &scales], &attributes);
        let shifts = self.constant(&format!("{name}.shifts"), &[rows, blocks], &shifts)?;
        let sums = self.sums(input, blocks, block);
        let shift = self.gemm(&format!("{name}.shift"), &sums, &shifts);
        Ok(self.graph.node("Add", name, &[&middle, &shift], &[]))
    }

    /// The sum of each block of a row: `[n, blocks]`.
    fn sums(&mut self, input: &str, blocks: usize, block: usize) -> String {
        let cut = format!("{input}.blocks");
        self.graph.reshape(&cut, input, &[-1, blocks as i64, block as i64]);
        let axis = self.graph.whole(&[2]);
        let keep = [("keepdims", Value::Int(0))];
        self.graph.node("ReduceSum", &format!("{input}.sums"), &[&cut, &axis], &keep)
    }
}

/// The bytes of numbers in half precision.
fn halves(tensor: &str, values: &[f32]) -> Result<Vec<u8>, ExportError> {
    let mut bytes = Vec::with_capacity(2 * values.len());
    for &value in values {
        let half = f16::from_f32(value);
        if !half.is_finite() {
            return Err(ExportError::Half { tensor: tensor.to_owned(), found: value });
        }
        bytes.extend(half.to_le_bytes());
    }
    Ok(bytes)
}
