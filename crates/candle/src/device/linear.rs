//! A matrix of weights on a device.

use candle_core::quantized::{GgmlDType, QMatMul, ggml_file};
use candle_core::{Device, Error, Module, Tensor};
use upcycle_gguf::GgmlType;

/// A matrix `[outputs, inputs]`.
#[derive(Debug)]
pub(crate) enum Linear {
    /// `f32`.
    Dense(Tensor),
    /// The file's own blocks.
    Blocks(QMatMul),
}

/// candle's type of blocks that it multiplies with on every device; none where the weights are widened instead.
pub(crate) fn blocks(dtype: GgmlType) -> Option<GgmlDType> {
    Some(match dtype {
        GgmlType::Q4_0 => GgmlDType::Q4_0,
        GgmlType::Q4_1 => GgmlDType::Q4_1,
        GgmlType::Q5_0 => GgmlDType::Q5_0,
        GgmlType::Q5_1 => GgmlDType::Q5_1,
        GgmlType::Q8_0 => GgmlDType::Q8_0,
        GgmlType::Q2K => GgmlDType::Q2K,
        GgmlType::Q3K => GgmlDType::Q3K,
        GgmlType::Q4K => GgmlDType::Q4K,
        GgmlType::Q5K => GgmlDType::Q5K,
        GgmlType::Q6K => GgmlDType::Q6K,
        _ => return None,
    })
}

impl Linear {
    /// The matrix of these blocks, `[outputs, inputs]`.
    pub(crate) fn of_blocks(
        dtype: GgmlDType,
        bytes: &[u8],
        shape: (usize, usize),
        device: &Device,
    ) -> Result<Self, Error> {
        let tensor = ggml_file::qtensor_from_ggml(dtype, bytes, vec![shape.0, shape.1], device)?;
        Ok(Self::Blocks(QMatMul::from_qtensor(tensor)?))
    }

    /// The matrix of these values, `[outputs, inputs]`.
    pub(crate) fn of_values(values: Vec<f32>, shape: (usize, usize), device: &Device) -> Result<Self, Error> {
        Ok(Self::Dense(Tensor::from_vec(values, shape, device)?))
    }

    /// The product with rows of activations, `[rows, inputs]`: `[rows, outputs]`.
    pub(super) fn multiply(&self, rows: &Tensor) -> Result<Tensor, Error> {
        match self {
            Self::Dense(weights) => rows.matmul(&weights.t()?),
            Self::Blocks(weights) => weights.forward(rows),
        }
    }
}
