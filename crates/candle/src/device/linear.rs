//! A matrix of weights on a device.

use candle_core::quantized::{GgmlDType, QMatMul, ggml_file};
use candle_core::{Device, Error, Module, Tensor};
use half::f16;
use upcycle_checkpoint::gguf::GgmlType;

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

/// What no value exceeds, by amount; infinite where one is not finite.
pub(crate) fn largest(values: impl Iterator<Item = f32>) -> f32 {
    values
        .fold(0.0, |largest, value| if value.is_finite() { largest.max(value.abs()) } else { f32::INFINITY })
}

/// What no weight of these blocks exceeds, by their scales and offsets, within a small factor; infinite where one of those is not
/// finite. O(blocks).
pub(crate) fn largest_of_blocks(dtype: GgmlDType, bytes: &[u8]) -> f32 {
    // Bytes of a block; and where it has numbers in half precision, and the most that each is multiplied by.
    let (block, parts): (usize, &[(usize, f32)]) = match dtype {
        GgmlDType::Q4_0 => (18, &[(0, 8.0)]),
        GgmlDType::Q4_1 => (20, &[(0, 15.0), (2, 1.0)]),
        GgmlDType::Q5_0 => (22, &[(0, 16.0)]),
        GgmlDType::Q5_1 => (24, &[(0, 31.0), (2, 1.0)]),
        GgmlDType::Q8_0 => (34, &[(0, 128.0)]),
        GgmlDType::Q2K => (84, &[(80, 3.0 * 15.0), (82, 15.0)]),
        GgmlDType::Q3K => (110, &[(108, 4.0 * 32.0)]),
        GgmlDType::Q4K => (144, &[(0, 15.0 * 63.0), (2, 63.0)]),
        GgmlDType::Q5K => (176, &[(0, 31.0 * 63.0), (2, 63.0)]),
        GgmlDType::Q6K => (210, &[(208, 32.0 * 128.0)]),
        _ => return f32::INFINITY,
    };
    let half = |block: &[u8], at| f16::from_le_bytes([block[at], block[at + 1]]).to_f32().abs();
    let of_block = |block: &[u8]| parts.iter().map(|&(at, factor)| half(block, at) * factor).sum::<f32>();
    largest(bytes.chunks_exact(block).map(of_block))
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

#[cfg(test)]
mod tests {
    use candle_core::quantized::QTensor;

    use super::*;

    #[test]
    fn scales_tell_what_no_weight_exceeds() -> Result<(), Error> {
        let values: Vec<f32> = (0..2048_i32).map(|i| (i * 37 % 1999 - 1000) as f32 / 7.0).collect();
        let values = Tensor::from_vec(values, (8, 256), &Device::Cpu)?;
        for dtype in (0..30).filter_map(|id| blocks(GgmlType::from_id(id)?)) {
            let quantized = QTensor::quantize(&values, dtype)?;
            let found = quantized.dequantize(&Device::Cpu)?.flatten_all()?.to_vec1::<f32>()?;
            let (found, mut bytes) = (largest(found.into_iter()), quantized.data()?.into_owned());
            let bound = largest_of_blocks(dtype, &bytes);
            assert!((found..8.0 * found).contains(&bound), "{dtype:?}: {bound} for {found}");
            // Somewhere in each block is a scale that is no number then.
            bytes.fill(0xff);
            assert_eq!(largest_of_blocks(dtype, &bytes), f32::INFINITY, "{dtype:?}");
        }
        assert_eq!(largest([1.0, -3.0, 2.0].into_iter()), 3.0);
        assert_eq!(largest([1.0, f32::NAN, 2.0].into_iter()), f32::INFINITY);
        Ok(())
    }
}
