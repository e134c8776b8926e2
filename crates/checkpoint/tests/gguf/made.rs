//! Random, truncated and corrupted files.

use proptest::prelude::*;
use upcycle_checkpoint::gguf::write::GgufWriter;
use upcycle_checkpoint::gguf::{Array, GgmlType, Value};

use super::{header, read, sample};

fn scalar() -> impl Strategy<Value = Value> {
    let float = prop::num::f32::NORMAL | prop::num::f32::ZERO;
    prop_oneof![
        any::<u8>().prop_map(Value::from),
        any::<i8>().prop_map(Value::from),
        any::<u16>().prop_map(Value::from),
        any::<i16>().prop_map(Value::from),
        any::<u32>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        float.prop_map(Value::from),
        float.prop_map(|number| Value::from(f64::from(number))),
        any::<bool>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ]
}

fn array() -> impl Strategy<Value = Array> {
    let flat = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..9).prop_map(Array::U8),
        prop::collection::vec(any::<i16>(), 0..9).prop_map(Array::I16),
        prop::collection::vec(any::<u32>(), 0..9).prop_map(Array::U32),
        prop::collection::vec(any::<i64>(), 0..9).prop_map(Array::I64),
        prop::collection::vec(any::<bool>(), 0..9).prop_map(Array::Bool),
        prop::collection::vec(prop::num::f64::NORMAL, 0..9).prop_map(Array::F64),
        prop::collection::vec(any::<String>(), 0..9)
            .prop_map(|strings| Array::String(strings.iter().collect())),
    ];
    flat.prop_recursive(3, 16, 4, |inner| prop::collection::vec(inner, 0..4).prop_map(Array::Array))
}

fn tensor() -> impl Strategy<Value = (GgmlType, Vec<u64>, u8)> {
    let shape = prop::collection::vec(1..4_u64, 0..=4);
    (prop::sample::select(GgmlType::ALL), shape, any::<u8>()).prop_map(|(dtype, mut shape, fill)| {
        if dtype.block_size() > 1 && shape.is_empty() {
            shape.push(1);
        }
        if let Some(row) = shape.first_mut() {
            *row *= dtype.block_size();
        }
        (dtype, shape, fill)
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        metadata in prop::collection::btree_map(
            "[a-z.]{1,12}", prop_oneof![scalar(), array().prop_map(Value::Array)], 0..8),
        tensors in prop::collection::btree_map("[a-z.]{0,12}", tensor(), 0..6),
        alignment in 0..9_u32,
    ) {
        let mut writer = GgufWriter::new().metadata("general.alignment", 1_u32 << alignment);
        for (key, value) in &metadata {
            writer = writer.metadata(key, value.clone());
        }
        let mut expected = Vec::new();
        for (name, (dtype, shape, fill)) in &tensors {
            let elements: u64 = shape.iter().product();
            let bytes = vec![*fill; (elements / dtype.block_size() * dtype.block_bytes()) as usize];
            writer = writer.tensor(name, *dtype, shape, bytes.clone());
            expected.push((name, *dtype, shape, bytes));
        }
        let file = writer.to_bytes().unwrap();
        let gguf = read(&file).unwrap();
        prop_assert_eq!(gguf.alignment(), 1 << alignment);
        prop_assert_eq!(gguf.metadata().len(), metadata.len() + 1);
        for (key, value) in &metadata {
            prop_assert_eq!(gguf.get(key), Some(value));
        }
        prop_assert_eq!(gguf.tensors().len(), expected.len());
        for (info, (name, dtype, shape, bytes)) in gguf.tensors().iter().zip(expected) {
            prop_assert_eq!((&info.name, info.dtype, &info.shape), (name, dtype, shape));
            prop_assert_eq!(&file[info.offset as usize..(info.offset + info.bytes) as usize], &bytes);
        }
    }

    #[test]
    fn bytes_at_random_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..256), tensors in 0..4_u64, entries in 0..4_u64) {
        let _ = read(&bytes);
        let _ = read(&header(tensors, entries, &bytes));
    }
}

/// Errors and results must be consistent too.
fn survives(file: &[u8]) {
    match read(file) {
        Err(error) => assert!(error.to_string().len() < 1_000),
        Ok(gguf) => {
            for tensor in gguf.tensors() {
                assert!(tensor.offset + tensor.bytes <= file.len() as u64);
            }
        }
    }
}

#[test]
fn every_truncation_is_survived() {
    let file = sample();
    for end in 0..file.len() {
        survives(&file[..end]);
        assert!(read(&file[..end]).is_err(), "the last tensor ends with the file");
    }
}

#[test]
fn every_damaged_byte_is_survived() {
    let file = sample();
    for at in 0..file.len() {
        let mut damaged = file.clone();
        for byte in 0..=255 {
            damaged[at] = byte;
            survives(&damaged);
        }
    }
}
