//! Tiny models of quantized types, encoded by candle.

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use upcycle_checkpoint::gguf::GgmlType;
use upcycle_testkit::tiny::Tiny;

/// A tiny model with these types of attention and feed-forward matrices. The embedding has the first.
pub(crate) fn quantized(attention: GgmlType, ffn: GgmlType) -> Tiny {
    let width = if [attention, ffn].iter().any(|dtype| dtype.block_size() == 256) { 256 } else { 64 };
    Tiny { width, attention, ffn, embedding: attention, quantize: encode, ..Tiny::default() }
}

fn encode(values: &[f32], dtype: GgmlType) -> Vec<u8> {
    let dtype = match dtype {
        GgmlType::Q4_0 => GgmlDType::Q4_0,
        GgmlType::Q4_1 => GgmlDType::Q4_1,
        GgmlType::Q5_0 => GgmlDType::Q5_0,
        GgmlType::Q5_1 => GgmlDType::Q5_1,
        GgmlType::Q8_0 => GgmlDType::Q8_0,
        GgmlType::Q8_1 => GgmlDType::Q8_1,
        GgmlType::Q2K => GgmlDType::Q2K,
        GgmlType::Q3K => GgmlDType::Q3K,
        GgmlType::Q4K => GgmlDType::Q4K,
        GgmlType::Q5K => GgmlDType::Q5K,
        GgmlType::Q6K => GgmlDType::Q6K,
        GgmlType::Q8K => GgmlDType::Q8K,
        other => panic!("candle does not encode {other}"),
    };
    let tensor = Tensor::from_slice(values, values.len(), &Device::Cpu).expect("a tensor");
    let quantized = QTensor::quantize(&tensor, dtype).expect("whole blocks");
    quantized.data().expect("bytes").into_owned()
}
