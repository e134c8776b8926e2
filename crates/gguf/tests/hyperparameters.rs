//! The sizes of a model: consistent, or refused by the key that is at fault.

use std::io::Cursor;

use upcycle_gguf::write::GgufWriter;
use upcycle_gguf::{GgmlType, Gguf, GgufError, HyperparameterError, Hyperparameters, Value};

const KNOWN: &[&str] = &["llama", "qwen2"];

fn read(more: &[(&str, Value)]) -> Result<Hyperparameters, HyperparameterError> {
    let sizes =
        [("embedding_length", 64), ("feed_forward_length", 128), ("block_count", 1), ("context_length", 99)];
    let mut entries: Vec<(String, Value)> = vec![("general.architecture".into(), "qwen2".into())];
    entries.extend(sizes.map(|(part, size)| (format!("qwen2.{part}"), (size as u32).into())));
    entries.push(("qwen2.attention.head_count".into(), 4_u32.into()));
    entries.push(("qwen2.attention.layer_norm_rms_epsilon".into(), 1e-5_f32.into()));
    for (key, value) in more {
        entries.retain(|(other, _)| other != key);
        entries.push(((*key).to_owned(), value.clone()));
    }
    let writer =
        entries.into_iter().fold(GgufWriter::new(), |writer, (key, value)| writer.metadata(key, value));
    let file = writer.tensor("token_embd.weight", GgmlType::F32, &[64, 3], [0; 768]).to_bytes().unwrap();
    Hyperparameters::read(&Gguf::read(&mut Cursor::new(file)).unwrap(), KNOWN)
}

#[test]
fn what_is_not_said_follows_from_the_rest() {
    let model = read(&[]).unwrap();
    assert_eq!((model.architecture, model.kv_heads, model.head, model.rotated), ("qwen2", 4, 16, 16));
    assert_eq!((model.vocab, model.rope_base, model.rope_factor), (3, 10_000.0, 1.0));
    let frequencies: Vec<f64> = model.frequencies().collect();
    assert_eq!((frequencies.len(), frequencies[0]), (8, 1.0));
    assert!(frequencies.is_sorted_by(|a, b| a > b));
}

#[test]
fn the_old_key_of_linear_scaling_is_read_where_there_is_no_new_one() {
    let old = ("qwen2.rope.scale_linear", Value::from(4.0_f32));
    let new = ("qwen2.rope.scaling.factor", Value::from(8.0_f32));
    assert_eq!(read(std::slice::from_ref(&old)).unwrap().rope_factor, 4.0);
    assert_eq!(read(&[old.clone(), new]).unwrap().rope_factor, 8.0);
    assert_eq!(read(&[old, ("qwen2.rope.scaling.type", "none".into())]).unwrap().rope_factor, 1.0);
}

#[test]
fn what_cannot_be_is_refused_by_its_key() {
    let cases: [(&str, Value); 10] = [
        ("qwen2.block_count", 2_u32.into()),
        ("qwen2.attention.head_count", 5_u32.into()),
        ("qwen2.attention.head_count", 128_u32.into()),
        ("qwen2.attention.head_count_kv", 3_u32.into()),
        ("qwen2.attention.value_length", 8_u32.into()),
        ("qwen2.rope.dimension_count", 17_u32.into()),
        ("qwen2.rope.freq_base", f32::NAN.into()),
        ("qwen2.rope.scaling.type", "yarn".into()),
        ("qwen2.attention.layer_norm_rms_epsilon", (-1.0_f32).into()),
        ("qwen2.expert_count", 8_u32.into()),
    ];
    for (key, value) in cases {
        match read(&[(key, value.clone())]) {
            Err(HyperparameterError::Metadata { key: named, .. }) => assert_eq!(named, key),
            other => panic!("{key} = {value:?}: {other:?}"),
        }
    }
    let unknown = read(&[("general.architecture", "gpt2".into())]).unwrap_err();
    assert_eq!(unknown.to_string(), "`general.architecture`: expected one of [llama, qwen2], found `gpt2`");
    let missing = read(&[("general.architecture", "llama".into())]);
    assert!(matches!(missing, Err(HyperparameterError::Gguf(GgufError::MissingKey { .. }))), "{missing:?}");
}
