//! The real model with its weights in other types.

use std::fs;
use std::path::PathBuf;

use half::f16;
use upcycle_checkpoint::gguf::write::GgufWriter;
use upcycle_checkpoint::gguf::{GgmlType, Gguf};

use crate::support::real_model;

/// The real model with all matrices in `dtype`, made once and saved among the tests' files.
pub(crate) fn real_as(dtype: GgmlType) -> PathBuf {
    let source = real_model();
    let to = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("SmolLM2-135M-Instruct.{dtype}.gguf"));
    let newer = |to: &fs::Metadata| {
        let of = |meta: &fs::Metadata| meta.modified().ok();
        fs::metadata(&source).is_ok_and(|source| of(&source) < of(to))
    };
    if fs::metadata(&to).is_ok_and(|meta| newer(&meta)) {
        return to;
    }
    let bytes = fs::read(&source).expect("the model");
    let gguf = Gguf::open(&source).expect("a sound model");
    let mut writer =
        gguf.metadata().fold(GgufWriter::new(), |writer, (key, value)| writer.metadata(key, value.clone()));
    for tensor in gguf.tensors() {
        let data = &bytes[tensor.offset as usize..][..tensor.bytes as usize];
        writer = match tensor.shape.len() {
            1 => writer.tensor(&tensor.name, tensor.dtype, &tensor.shape, data),
            _ => writer.tensor(&tensor.name, dtype, &tensor.shape, pack(&unpack(data, tensor.dtype), dtype)),
        };
    }
    // Atomic, because another test may make it at the same time.
    let mut file = tempfile::NamedTempFile::new_in(env!("CARGO_TARGET_TMPDIR")).expect("a file");
    writer.write_to(&mut file).expect("to write");
    file.persist(&to).expect("to move");
    to
}

fn half(bytes: &[u8]) -> f32 {
    f16::from_le_bytes([bytes[0], bytes[1]]).to_f32()
}

/// Decodes blocks of 32, for the types of the real model.
fn unpack(data: &[u8], dtype: GgmlType) -> Vec<f32> {
    match dtype {
        GgmlType::Q8_0 => data
            .chunks_exact(34)
            .flat_map(|block| {
                let scale = half(block);
                block[2..].iter().map(move |&byte| scale * f32::from(byte as i8))
            })
            .collect(),
        GgmlType::Q4_1 => data
            .chunks_exact(20)
            .flat_map(|block| {
                let (scale, least) = (half(block), half(&block[2..]));
                let number = move |four: u8| scale * f32::from(four) + least;
                let low = block[4..].iter().map(move |&byte| number(byte & 15));
                low.chain(block[4..].iter().map(move |&byte| number(byte >> 4)))
            })
            .collect(),
        other => panic!("the real model has matrices in {other}"),
    }
}

fn pack(numbers: &[f32], dtype: GgmlType) -> Vec<u8> {
    match dtype {
        GgmlType::F32 => numbers.iter().flat_map(|number| number.to_le_bytes()).collect(),
        GgmlType::F16 => numbers.iter().flat_map(|&number| f16::from_f32(number).to_le_bytes()).collect(),
        GgmlType::Q8_0 => numbers
            .as_chunks::<32>()
            .0
            .iter()
            .flat_map(|block| {
                let most = block.iter().fold(0.0_f32, |most, number| number.abs().max(most));
                let scale = f16::from_f32(most / 127.0);
                let inverse = if most == 0.0 { 0.0 } else { 127.0 / most };
                let bytes = block.iter().map(move |number| (number * inverse).round() as i8 as u8);
                scale.to_le_bytes().into_iter().chain(bytes)
            })
            .collect(),
        other => panic!("the tests do not write {other}"),
    }
}
