//! A matrix of weights on a device.

use std::borrow::Cow;

use candle_core::quantized::{GgmlDType, QMatMul, QStorage, QTensor};
use candle_core::{Device, Error, Module, Tensor};
use half::f16;
use upcycle_checkpoint::gguf::{GgmlType, TensorInfo};

use crate::error::LoadError;

/// The types that candle reads.
const KNOWN: [(GgmlType, GgmlDType); 15] = [
    (GgmlType::F32, GgmlDType::F32),
    (GgmlType::F16, GgmlDType::F16),
    (GgmlType::Bf16, GgmlDType::BF16),
    (GgmlType::Q4_0, GgmlDType::Q4_0),
    (GgmlType::Q4_1, GgmlDType::Q4_1),
    (GgmlType::Q5_0, GgmlDType::Q5_0),
    (GgmlType::Q5_1, GgmlDType::Q5_1),
    (GgmlType::Q8_0, GgmlDType::Q8_0),
    (GgmlType::Q8_1, GgmlDType::Q8_1),
    (GgmlType::Q2K, GgmlDType::Q2K),
    (GgmlType::Q3K, GgmlDType::Q3K),
    (GgmlType::Q4K, GgmlDType::Q4K),
    (GgmlType::Q5K, GgmlDType::Q5K),
    (GgmlType::Q6K, GgmlDType::Q6K),
    (GgmlType::Q8K, GgmlDType::Q8K),
];

/// candle's name of a tensor's type.
pub(crate) fn ggml_dtype(info: &TensorInfo) -> Result<GgmlDType, LoadError> {
    let found = KNOWN.iter().find(|(dtype, _)| *dtype == info.dtype);
    found.map(|&(_, dtype)| dtype).ok_or_else(|| LoadError::Type {
        tensor: info.name.clone(),
        found: info.dtype,
        known: KNOWN.map(|(dtype, _)| dtype.name()).join(", "),
    })
}

/// Whether candle multiplies rows of `inputs` with these blocks on every device.
pub(crate) fn has_quantized_matmul(dtype: GgmlDType, inputs: usize) -> bool {
    match dtype {
        GgmlDType::F32 | GgmlDType::F16 | GgmlDType::BF16 | GgmlDType::Q8_1 | GgmlDType::Q8K => false,
        // On the CPU candle takes these blocks in pairs.
        GgmlDType::Q4_1 | GgmlDType::Q5_0 | GgmlDType::Q5_1 => inputs.is_multiple_of(2 * dtype.block_size()),
        _ => true,
    }
}

/// The tensor `[outputs, inputs]` with these blocks of a file.
pub(crate) fn qtensor_from_blocks(
    dtype: GgmlDType,
    blocks: &[u8],
    shape: (usize, usize),
    device: &Device,
) -> Result<QTensor, Error> {
    QTensor::new(QStorage::from_data(Cow::Borrowed(blocks), device, dtype)?, shape)
}

/// The largest absolute value; infinite if one is not finite.
pub(crate) fn max_abs(values: &[f32]) -> f32 {
    let larger =
        |max_abs: f32, value: &f32| if value.is_finite() { max_abs.max(value.abs()) } else { f32::INFINITY };
    values.iter().fold(0.0, larger)
}

/// A bound on the absolute values of these blocks, from their scales and minima, at most a small factor too high; infinite if a
/// scale or minimum is not finite. O(blocks).
pub(crate) fn largest_in_blocks(dtype: GgmlDType, bytes: &[u8]) -> f32 {
    // Where a block has numbers in half precision, and the largest factor of each.
    let parts: &[(usize, f32)] = match dtype {
        GgmlDType::Q4_0 => &[(0, 8.0)],
        GgmlDType::Q4_1 => &[(0, 15.0), (2, 1.0)],
        GgmlDType::Q5_0 => &[(0, 16.0)],
        GgmlDType::Q5_1 => &[(0, 31.0), (2, 1.0)],
        GgmlDType::Q8_0 => &[(0, 128.0)],
        GgmlDType::Q2K => &[(80, 3.0 * 15.0), (82, 15.0)],
        GgmlDType::Q3K => &[(108, 4.0 * 32.0)],
        GgmlDType::Q4K => &[(0, 15.0 * 63.0), (2, 63.0)],
        GgmlDType::Q5K => &[(0, 31.0 * 63.0), (2, 63.0)],
        GgmlDType::Q6K => &[(208, 32.0 * 128.0)],
        _ => return f32::INFINITY,
    };
    let half = |block: &[u8], at| f16::from_le_bytes([block[at], block[at + 1]]).to_f32().abs();
    let bound = |block: &[u8]| parts.iter().map(|&(at, factor)| half(block, at) * factor).sum::<f32>();
    let bounds: Vec<f32> = bytes.chunks_exact(dtype.type_size()).map(bound).collect();
    max_abs(&bounds)
}

/// A matrix `[outputs, inputs]`.
#[derive(Debug)]
pub(crate) enum Linear {
    /// `f32`.
    Dense(Tensor),
    /// The file's own blocks.
    Quantized(QMatMul),
}

impl Linear {
    pub(crate) fn quantized(blocks: QTensor) -> Result<Self, Error> {
        Ok(Self::Quantized(QMatMul::from_qtensor(blocks)?))
    }

    /// The product with rows of activations, `[rows, inputs]`: `[rows, outputs]`.
    pub(crate) fn multiply(&self, rows: &Tensor) -> Result<Tensor, Error> {
        match self {
            Self::Dense(weights) => rows.matmul(&weights.t()?),
            Self::Quantized(weights) => weights.forward(rows),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_bound_every_weight() -> Result<(), Error> {
        let values: Vec<f32> = (0..2048_i32).map(|i| (i * 37 % 1999 - 1000) as f32 / 7.0).collect();
        let values = Tensor::from_vec(values, (8, 256), &Device::Cpu)?;
        for (_, dtype) in KNOWN.into_iter().filter(|&(_, dtype)| has_quantized_matmul(dtype, 256)) {
            let quantized = QTensor::quantize(&values, dtype)?;
            let found = quantized.dequantize(&Device::Cpu)?.flatten_all()?.to_vec1::<f32>()?;
            let (found, mut bytes) = (max_abs(&found), quantized.data()?.into_owned());
            let bound = largest_in_blocks(dtype, &bytes);
            assert!((found..8.0 * found).contains(&bound), "{dtype:?}: {bound} for {found}");
            // This makes a scale of each block a NaN.
            bytes.fill(0xff);
            assert_eq!(largest_in_blocks(dtype, &bytes), f32::INFINITY, "{dtype:?}");
        }
        assert_eq!(max_abs(&[1.0, -3.0, 2.0]), 3.0);
        assert_eq!(max_abs(&[1.0, f32::NAN, 2.0]), f32::INFINITY);
        Ok(())
    }
}
