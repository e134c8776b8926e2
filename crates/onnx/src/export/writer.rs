//! Writes weights and the nodes that multiply with them.

use std::path::PathBuf;

use half::f16;

use super::blocks::{Bits, Blocks, converts_directly, has_minimum};
use super::data_file::{DataFile, bytes_of};
use super::error::ExportError;
use super::graph_builder::GraphBuilder;
use super::options::{ExportOptions, WeightType};
use super::tensors::{MatrixShape, Tensors};
use crate::schema::{AttributeValue, Element};

/// A graph and its data file under construction.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) tensors: Tensors,
    pub(crate) graph: GraphBuilder,
    pub(crate) data: DataFile,
    pub(crate) path: PathBuf,
    pub(crate) options: ExportOptions,
}

/// A tensor of the model and its number of rows.
#[derive(Debug)]
pub(crate) struct TensorRows {
    pub(crate) tensor: String,
    pub(crate) rows: usize,
}

/// A weight matrix made of the rows of several tensors.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matrix<'a> {
    /// The name of the output of the product.
    pub(crate) name: &'a str,
    /// The tensors, from the first row on.
    pub(crate) parts: &'a [TensorRows],
    /// The length of a row.
    pub(crate) width: usize,
}

impl Matrix<'_> {
    fn rows(&self) -> usize {
        self.parts.iter().map(|part| part.rows).sum()
    }
}

/// Of `MatMulNBits`: rounds activations to int8.
const ACCURACY_LEVEL: i64 = 4;

impl Writer {
    fn written<T>(&self, result: std::io::Result<T>) -> Result<T, ExportError> {
        result.map_err(|source| ExportError::Write { path: self.path.clone(), source })
    }

    /// Writes a constant.
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

    /// Writes a vector of the model under its name.
    pub(crate) fn vector(&mut self, name: &str, len: usize) -> Result<String, ExportError> {
        let values = self.tensors.vector(name, len)?;
        self.constant(name, &[len], &values)
    }

    /// Writes a matrix and multiplies `input`, `[n, width]`, with it: `[n, rows]`, under the matrix's name.
    pub(crate) fn write_matmul(&mut self, matrix: Matrix<'_>, input: &str) -> Result<String, ExportError> {
        match self.options.weights {
            WeightType::F32 | WeightType::F16 => {
                let weights = self.write_dense(matrix)?;
                Ok(self.gemm(matrix.name, input, &weights))
            }
            WeightType::Int8 => self.matmul_nbits(matrix, input, Bits::Eight),
            WeightType::Int4 => self.matmul_nbits(matrix, input, Bits::Four),
        }
    }

    /// As [`write_matmul`](Self::write_matmul), for the head. Rounding errors of the head affect logits directly, so it only uses 4 bits if the
    /// model's file does.
    pub(crate) fn write_lm_head(&mut self, matrix: Matrix<'_>, input: &str) -> Result<String, ExportError> {
        let four = matrix.parts.iter().all(|part| {
            self.tensors
                .format(&part.tensor)
                .is_some_and(|format| converts_directly(format, Bits::Four, self.options.block))
        });
        match self.options.weights {
            WeightType::Int4 if !four => self.matmul_nbits(matrix, input, Bits::Eight),
            _ => self.write_matmul(matrix, input),
        }
    }

    /// Multiplies `input` with the transpose of `weights`.
    pub(crate) fn gemm(&mut self, name: &str, input: &str, weights: &str) -> String {
        self.graph.node("Gemm", name, &[input, weights], &[("transB", AttributeValue::Int(1))])
    }

    /// Writes a matrix, `[rows, width]`, in `f32` or half precision. Returns the name of its `f32` form.
    pub(crate) fn write_dense(&mut self, matrix: Matrix<'_>) -> Result<String, ExportError> {
        let name = format!("{}.weight", matrix.name);
        let half = self.options.weights == WeightType::F16;
        let (data, path) = (&mut self.data, &self.path);
        let written = |source| ExportError::Write { path: path.clone(), source };
        data.start().map_err(written)?;
        for TensorRows { tensor, rows } in matrix.parts {
            let shape = MatrixShape { rows: *rows, width: matrix.width };
            self.tensors.for_each_chunk(tensor, shape, &mut |rows| {
                let bytes = match half {
                    true => f16_bytes(tensor, &rows.values)?,
                    false => bytes_of(&rows.values),
                };
                data.write(&bytes).map_err(written)
            })?;
        }
        let element = if half { Element::Float16 } else { Element::Float };
        let stored = if half { format!("{name}.half") } else { name.clone() };
        self.graph.initializer(data.end(&stored, element, &[matrix.rows(), matrix.width]));
        if half {
            let float = AttributeValue::Int(i32::from(Element::Float).into());
            self.graph.node("Cast", &name, &[&stored], &[("to", float)]);
        }
        Ok(name)
    }

    /// Writes a matrix in blocks and multiplies `input` with it.
    fn matmul_nbits(&mut self, matrix: Matrix<'_>, input: &str, bits: Bits) -> Result<String, ExportError> {
        let Matrix { name, parts, width } = matrix;
        let block = self.options.block;
        if !width.is_multiple_of(block) {
            return Err(ExportError::Block { tensor: parts[0].tensor.clone(), width, block });
        }
        let (rows, blocks) = (matrix.rows(), width / block);
        let shifted = parts.iter().any(|part| {
            let format = self.tensors.format(&part.tensor);
            format.is_some_and(|format| has_minimum(format) && converts_directly(format, bits, block))
        });
        let (data, path) = (&mut self.data, &self.path);
        let written = |source| ExportError::Write { path: path.clone(), source };
        data.start().map_err(written)?;
        let (mut scales, mut shifts) = (Vec::new(), Vec::new());
        for TensorRows { tensor, rows } in parts {
            let direct = self.tensors.format(tensor).filter(|&format| converts_directly(format, bits, block));
            let shape = MatrixShape { rows: *rows, width };
            self.tensors.for_each_chunk(tensor, shape, &mut |rows| {
                let mut blocks = Blocks::default();
                match direct {
                    Some(format) => blocks.convert(format, &rows.bytes),
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
            ("K", AttributeValue::Int(width as i64)),
            ("N", AttributeValue::Int(rows as i64)),
            ("bits", AttributeValue::Int(bits.count() as i64)),
            ("block_size", AttributeValue::Int(block as i64)),
            ("accuracy_level", AttributeValue::Int(ACCURACY_LEVEL)),
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

    /// The sum of each block of `input`: `[n, blocks]`.
    fn sums(&mut self, input: &str, blocks: usize, block: usize) -> String {
        let cut = format!("{input}.blocks");
        self.graph.reshape(&cut, input, &[-1, blocks as i64, block as i64]);
        let axis = self.graph.int64s(&[2]);
        let keep = [("keepdims", AttributeValue::Int(0))];
        self.graph.node("ReduceSum", &format!("{input}.sums"), &[&cut, &axis], &keep)
    }
}

/// The bytes of numbers in half precision.
fn f16_bytes(tensor: &str, values: &[f32]) -> Result<Vec<u8>, ExportError> {
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
