//! Reading tensors back to the host.

use candle_core::{Error, Storage, Tensor};

/// Reads the values of an `f32` tensor into a buffer that is kept from pass to pass.
pub(crate) fn read(tensor: &Tensor, values: &mut Vec<f32>) -> Result<(), Error> {
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    let Some((start, end)) = layout.contiguous_offsets() else {
        return Err(Error::RequiresContiguous { op: "read" }.bt());
    };
    match &*storage {
        Storage::Cpu(storage) => {
            values.clear();
            values.extend_from_slice(&storage.as_slice::<f32>()?[start..end]);
            Ok(())
        }
        #[cfg(feature = "cuda")]
        Storage::Cuda(storage) => {
            let source = storage.as_cuda_slice::<f32>()?.slice(start..end);
            values.resize(end - start, 0.0);
            storage.device.memcpy_dtoh(&source, values)
        }
        _ => {
            *values = tensor.flatten_all()?.to_vec1()?;
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn views_are_read_and_replace_what_was_there() -> Result<(), Error> {
        let tensor = Tensor::arange(0.0_f32, 12.0, &Device::Cpu)?.reshape((3, 4))?;
        let mut values = vec![9.0; 100];
        read(&tensor.narrow(0, 1, 2)?, &mut values)?;
        assert_eq!(values, (4..12).map(|value| value as f32).collect::<Vec<_>>());
        read(&tensor.t()?, &mut values)?;
        assert_eq!(values[..4], [0.0, 4.0, 8.0, 1.0]);
        Ok(())
    }
}
