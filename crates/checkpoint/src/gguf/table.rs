//! Checks of the tensor table.

use crate::gguf::error::GgufError;
use crate::gguf::tensor::{GgmlType, MAX_DIMENSIONS, TensorInfo};

/// The size in bytes of a tensor with this type and shape.
///
/// # Errors
/// The shape has too many dimensions, a dimension of zero, rows that are not whole blocks, or a size beyond 64 bits.
pub(super) fn byte_size(name: &str, dtype: GgmlType, shape: &[u64]) -> Result<u64, GgufError> {
    let tensor = || name.to_owned();
    if shape.len() > MAX_DIMENSIONS {
        let found = shape.len() as u64;
        return Err(GgufError::TooManyDimensions { tensor: tensor(), found, limit: MAX_DIMENSIONS });
    }
    if shape.contains(&0) {
        return Err(GgufError::EmptyTensor { tensor: tensor(), shape: shape.to_vec() });
    }
    let row = shape.first().copied().unwrap_or(1);
    let block = dtype.block_size();
    if row % block != 0 {
        return Err(GgufError::PartialBlock { tensor: tensor(), dtype, row, block });
    }
    let elements = shape.iter().try_fold(1_u64, |product, &dimension| product.checked_mul(dimension));
    elements
        .and_then(|elements| (elements / block).checked_mul(dtype.block_bytes()))
        .ok_or_else(|| GgufError::TensorTooLarge { tensor: tensor(), shape: shape.to_vec() })
}

/// Turns offsets within the data section into offsets within the file.
///
/// # Errors
/// A tensor ends after the file, or two tensors overlap.
pub(super) fn resolve_offsets(
    tensors: &mut [TensorInfo],
    header_end: u64,
    alignment: u64,
    file_len: u64,
) -> Result<(), GgufError> {
    // The header ends below HEADER_LIMIT and the alignment fits in 32 bits: no overflow.
    let data_start = header_end.next_multiple_of(alignment);
    for tensor in tensors.iter_mut() {
        tensor.offset = tensor.offset.saturating_add(data_start);
        if tensor.offset.checked_add(tensor.bytes).is_none_or(|end| end > file_len) {
            return Err(GgufError::TensorOutOfFile {
                tensor: tensor.name.clone(),
                offset: tensor.offset,
                bytes: tensor.bytes,
                file_len,
            });
        }
    }
    let mut by_offset: Vec<&TensorInfo> = tensors.iter().collect();
    by_offset.sort_unstable_by_key(|tensor| tensor.offset);
    for pair in by_offset.windows(2) {
        // No tensor is empty, so the first overlap is between neighbours.
        if pair[0].offset + pair[0].bytes > pair[1].offset {
            return Err(GgufError::OverlappingTensors {
                first: pair[0].name.clone(),
                second: pair[1].name.clone(),
                offset: pair[1].offset,
            });
        }
    }
    Ok(())
}
