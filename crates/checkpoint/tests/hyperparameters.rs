//! Reading and checking hyperparameters in GGUF files.

use std::io::Cursor;

use upcycle_checkpoint::gguf::write::GgufWriter;
use upcycle_checkpoint::gguf::{Array, GgmlType, Gguf, GgufError, Value};
use upcycle_checkpoint::{Architecture, HyperparameterError, Hyperparameters, RopeLayout, RopeScaling};

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
    Hyperparameters::from_gguf(&Gguf::read(&mut Cursor::new(file)).unwrap())
}

#[test]
fn omitted_values_follow_from_the_others() {
    let model = read(&[]).unwrap();
    assert_eq!((model.architecture, model.kv_heads), (Architecture::Qwen2, 4));
    assert_eq!((model.head_dim, model.rotary_dim, model.rope_layout), (16, 16, RopeLayout::Halves));
    assert_eq!((model.vocab, model.rope_base, model.rope_scaling), (3, 10_000.0, RopeScaling::None));
    let frequencies = model.frequencies(None);
    assert_eq!((frequencies.len(), frequencies[0]), (8, 1.0));
    assert!(frequencies.is_sorted_by(|a, b| a > b));
}

#[test]
fn the_old_key_of_linear_scaling_is_a_fallback() {
    let scaling = |more: &[_]| read(more).unwrap().rope_scaling;
    let old = ("qwen2.rope.scale_linear", Value::from(4.0_f32));
    let new = ("qwen2.rope.scaling.factor", Value::from(8.0_f32));
    assert_eq!(scaling(std::slice::from_ref(&old)), RopeScaling::Linear { factor: 4.0 });
    assert_eq!(scaling(&[old.clone(), new]), RopeScaling::Linear { factor: 8.0 });
    assert_eq!(scaling(&[old, ("qwen2.rope.scaling.type", "none".into())]), RopeScaling::None);
}

/// The frequencies between are divided by a factor in between.
#[test]
fn scaling_divides_low_frequencies_and_keeps_high_ones() {
    let plain = read(&[]).unwrap();
    let llama3 =
        RopeScaling::Llama3 { factor: 8.0, low_frequency: 1.0, high_frequency: 4.0, original_context: 200 };
    let yarn = RopeScaling::Yarn {
        factor: 8.0,
        beta_fast: 32.0,
        beta_slow: 1.0,
        original_context: 400,
        magnitude: 1.2,
    };
    for scaling in [llama3, yarn] {
        let scaled = Hyperparameters { rope_scaling: scaling, ..plain.clone() };
        let ratios: Vec<f64> =
            plain.frequencies(None).iter().zip(scaled.frequencies(None)).map(|(a, b)| a / b).collect();
        assert!((ratios[0] - 1.0).abs() < 1e-12 && (ratios[7] - 8.0).abs() < 1e-12, "{ratios:?}");
        assert!(ratios.is_sorted(), "{ratios:?}");
        assert!(ratios.iter().any(|&ratio| ratio > 1.01 && ratio < 7.99), "{ratios:?}");
    }
    let divided = plain.frequencies(Some(&[2.0; 8]));
    let linear = Hyperparameters { rope_scaling: RopeScaling::Linear { factor: 2.0 }, ..plain };
    assert_eq!(divided, linear.frequencies(None));
}

#[test]
fn yarn_has_the_usual_defaults() {
    let kind = ("qwen2.rope.scaling.type", Value::from("yarn"));
    let factor = ("qwen2.rope.scaling.factor", Value::from(4.0_f32));
    let model = read(&[kind.clone(), factor.clone()]).unwrap();
    let RopeScaling::Yarn { factor: found, beta_fast, beta_slow, original_context, magnitude } =
        model.rope_scaling
    else {
        panic!("{model:?}");
    };
    assert_eq!((found, beta_fast, beta_slow, original_context), (4.0, 32.0, 1.0, 99));
    assert!((magnitude - (0.1 * 4.0_f32.ln() + 1.0)).abs() < 1e-6);
    let attention = ("qwen2.rope.scaling.attn_factor", Value::from(0.5_f32));
    let context = ("qwen2.rope.scaling.original_context_length", Value::from(32_u32));
    let model = read(&[kind, factor, attention, context]).unwrap();
    assert_eq!(model.rope_scaling.magnitude(), 0.5 * magnitude);
    assert!(matches!(model.rope_scaling, RopeScaling::Yarn { original_context: 32, .. }));
}

#[test]
fn a_window_applies_to_its_layers_if_shorter_than_the_context() {
    let window = |positions: u32| ("qwen2.attention.sliding_window", Value::from(positions));
    let pattern = |layers: &[bool]| {
        ("qwen2.attention.sliding_window_pattern", Value::Array(Array::Bool(layers.to_vec())))
    };
    assert_eq!(read(&[window(6)]).unwrap().window(0), Some(6));
    assert_eq!(read(&[window(6)]).unwrap().window(1), None);
    assert_eq!(read(&[window(6), pattern(&[true])]).unwrap().window(0), Some(6));
    for whole in [read(&[window(0)]), read(&[window(99)]), read(&[window(6), pattern(&[false])])] {
        assert_eq!(whole.unwrap().window, None);
    }
    assert!(read(&[window(6), pattern(&[true, false])]).is_err());
}

#[test]
fn errors_name_the_invalid_key() {
    let cases: [(&str, Value); 11] = [
        ("qwen2.block_count", 2_u32.into()),
        ("qwen2.attention.head_count", 5_u32.into()),
        ("qwen2.attention.head_count", 128_u32.into()),
        ("qwen2.attention.head_count_kv", 3_u32.into()),
        ("qwen2.attention.value_length", 8_u32.into()),
        ("qwen2.rope.dimension_count", 17_u32.into()),
        ("qwen2.rope.freq_base", f32::NAN.into()),
        ("qwen2.rope.scaling.type", "longrope".into()),
        ("qwen2.rope.scaling.attn_factor", 2.0_f32.into()),
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
    assert_eq!(
        unknown.to_string(),
        "`general.architecture`: expected one of [llama, qwen2, qwen3], found `gpt2`"
    );
    for (part, value) in [
        ("factor", Value::from(0.5_f32)),
        ("original_context_length", 0_u32.into()),
        ("yarn_beta_fast", 0.0_f32.into()),
        ("yarn_beta_slow", f32::NAN.into()),
        ("attn_factor", (-1.0_f32).into()),
        ("yarn_ext_factor", 0.5_f32.into()),
        ("yarn_log_multiplier", 0.1_f32.into()),
    ] {
        let key = format!("qwen2.rope.scaling.{part}");
        let yarn = [("qwen2.rope.scaling.type", "yarn".into()), (key.as_str(), value)];
        match read(&yarn) {
            Err(HyperparameterError::Metadata { key: named, .. }) => assert_eq!(named, key),
            other => panic!("{key}: {other:?}"),
        }
    }
    let missing = read(&[("general.architecture", "llama".into())]);
    assert!(matches!(missing, Err(HyperparameterError::Gguf(GgufError::MissingKey { .. }))), "{missing:?}");
}
