//! Which trees can be verified with a model, according to its metadata.

use proptest::collection::vec;
use proptest::prelude::*;
use upcycle_checkpoint::gguf::write::GgufWriter;
use upcycle_checkpoint::gguf::{Array, Gguf, StringArray, Value};
use upcycle_core::{Support, TreeKind};
use upcycle_llama_cpp::{ModelKind, kind_of};

/// A state that each token overwrites.
const RECURRENT: &[&str] = &["mamba", "mamba2", "rwkv6", "rwkv7"];
/// Layers of both kinds.
const HYBRID: &[&str] =
    &["jamba", "falcon-h1", "granitehybrid", "lfm2", "nemotron_h", "qwen3next", "qwen35moe"];
/// Layers that see a window.
const SLIDING: &[&str] = &["gemma2", "gemma3", "gemma3n", "gemma4", "gpt-oss", "cohere2", "llama4"];

fn header(entries: &[(&str, Value)]) -> Gguf {
    let writer =
        entries.iter().fold(GgufWriter::new(), |writer, (key, value)| writer.metadata(*key, value.clone()));
    Gguf::read(&mut std::io::Cursor::new(writer.to_bytes().expect("sound"))).expect("sound")
}

fn architecture(name: &str) -> (&'static str, Value) {
    ("general.architecture", Value::String(name.to_owned()))
}

#[test]
fn the_metadata_decide_what_can_be_verified() {
    let kind = |name| kind_of(&header(&[architecture(name)]));
    for name in ["llama", "qwen3", "phi3", "olmo2x", ""] {
        assert_eq!(kind(name), ModelKind::Attention, "{name}");
        assert_eq!(kind(name).support(), Support::Tree);
    }
    for (names, expected, why) in [
        (RECURRENT, ModelKind::Recurrent, "overwritten"),
        (HYBRID, ModelKind::Hybrid, "recurrent layers"),
        (SLIDING, ModelKind::SlidingWindow, "sliding window"),
    ] {
        for &name in names {
            assert_eq!(kind(name), expected, "{name}");
            assert!(
                matches!(kind(name).support(), Support::Plain { reason } if reason.contains(why)),
                "{name}"
            );
        }
    }
    for name in ["t5", "bert", "llada", "eagle3"] {
        assert!(matches!(kind(name), ModelKind::NotGenerative { .. }), "{name}");
    }
    let window =
        |name: &str, key, window: u32| kind_of(&header(&[architecture(name), (key, Value::U32(window))]));
    assert_eq!(window("gemma3", "gemma3.attention.sliding_window", 0), ModelKind::Attention);
    assert_eq!(
        window("llama", "llama.attention.sliding_window", 4096),
        ModelKind::Attention,
        "it is not applied"
    );
    assert_eq!(window("tomorrow", "tomorrow.attention.sliding_window", 4096), ModelKind::SlidingWindow);
    let causal = header(&[architecture("llama"), ("llama.attention.causal", Value::Bool(false))]);
    assert!(matches!(kind_of(&causal), ModelKind::NotGenerative { .. }));
}

/// Values of any type for a key.
fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<u8>().prop_map(Value::U8),
        any::<i32>().prop_map(Value::I32),
        (0..3_u32).prop_map(Value::U32),
        any::<u64>().prop_map(Value::U64),
        any::<i64>().prop_map(Value::I64),
        any::<f32>().prop_map(Value::F32),
        any::<bool>().prop_map(Value::Bool),
        ".{0,4}".prop_map(Value::String),
        vec(any::<bool>(), 0..4).prop_map(|flags| Value::Array(Array::Bool(flags))),
        vec(0..3_u32, 0..4).prop_map(|sizes| Value::Array(Array::U32(sizes))),
        Just(Value::Array(Array::String(StringArray::new()))),
    ]
}

/// An architecture of each kind, an unknown one, or none.
fn name() -> impl Strategy<Value = Value> {
    let known: Vec<&str> = [RECURRENT, HYBRID, SLIDING, &["llama", "qwen2", "bert", "t5"]].concat();
    prop_oneof![
        8 => proptest::sample::select(known).prop_map(|name| Value::String(name.to_owned())),
        1 => "[a-z0-9]{0,8}".prop_map(Value::String),
        1 => value(),
    ]
}

proptest! {
    /// For any other metadata of any type: a model with a state never verifies trees, a model with a window only if its file states
    /// that there is none, and a refusal of trees has a reason.
    #[test]
    fn no_metadata_gives_a_tree_to_a_model_that_cannot_be_rolled_back(
        name in name(),
        window in proptest::option::of(value()),
        causal in proptest::option::of(value()),
        others in proptest::collection::btree_map("[a-z]{1,6}", value(), 0..4),
    ) {
        let architecture = match &name {
            Value::String(name) => name.clone(),
            _ => String::new(),
        };
        let mut entries = vec![("general.architecture".to_owned(), name)];
        let keys = [("attention.sliding_window", &window), ("attention.causal", &causal)];
        entries.extend(keys.into_iter().filter_map(|(key, value)| {
            Some((format!("{architecture}.{key}"), value.clone()?))
        }));
        entries.extend(others.into_iter().map(|(key, value)| (format!("{architecture}.other.{key}"), value)));
        let entries: Vec<_> = entries.iter().map(|(key, value)| (&**key, value.clone())).collect();
        let kind = kind_of(&header(&entries));
        let of = |names: &[&str]| names.contains(&&*architecture);
        let no_window = window.as_ref().and_then(Value::as_integer) == Some(0);
        let support = kind.support();
        if of(RECURRENT) || of(HYBRID) || (of(SLIDING) && !no_window) || of(&["bert", "t5"]) {
            prop_assert_ne!(support.kind(), TreeKind::Tree, "{} as {:?}", architecture, kind);
        }
        if let Support::Plain { reason } | Support::Chain { reason } = &support {
            prop_assert!(reason.len() > 20, "{}", reason);
        }
    }
}
