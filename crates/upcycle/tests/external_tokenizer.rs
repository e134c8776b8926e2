//! A vocabulary that `upcycle-text` does not build, in the backend that brings its own tokenizer.
#![cfg(feature = "llama-cpp")]

use upcycle::{ConfigBuilder, LoadError, LoadedModel, PromptStyle, Registry};
use upcycle_checkpoint::gguf::StringArray;
use upcycle_checkpoint::gguf::write::GgufWriter;
use upcycle_testkit::tiny::{Tiny, write};
use upcycle_text::TextError;

/// A Unigram vocabulary, as T5 has it: an unknown token, two marks, the 256 bytes, and a few pieces with scores.
fn unigram(writer: GgufWriter) -> (GgufWriter, usize) {
    let bytes = (0..=255_u8).map(|byte| format!("<0x{byte:02X}>"));
    let pieces = ["▁", "h", "i", "o", "hi", "▁hi", "▁ho"].map(str::to_owned);
    let texts: Vec<String> =
        ["<unk>", "<s>", "</s>"].map(str::to_owned).into_iter().chain(bytes).chain(pieces).collect();
    let types: Vec<i32> = (0..texts.len())
        .map(|id| match id {
            0 => 2,
            1 | 2 => 3,
            3..259 => 6,
            _ => 1,
        })
        .collect();
    let scores: Vec<f32> =
        (0..texts.len()).map(|id| if id < 259 { 0.0 } else { id as f32 - 300.0 }).collect();
    let count = texts.len();
    let writer = writer
        .metadata("tokenizer.ggml.model", "t5")
        .metadata("tokenizer.ggml.tokens", texts.iter().map(String::as_str).collect::<StringArray>())
        .metadata("tokenizer.ggml.token_type", types)
        .metadata("tokenizer.ggml.scores", scores)
        .metadata("tokenizer.ggml.bos_token_id", 1_u32)
        .metadata("tokenizer.ggml.eos_token_id", 2_u32);
    (writer, count)
}

#[test]
fn a_unigram_vocabulary_is_read_by_llama_cpp_and_by_it_alone() {
    let (writer, count) = unigram(GgufWriter::new());
    let file = write(&Tiny { vocab: count, ..Tiny::default() }.with_vocabulary(writer, None));
    let registry = Registry::builtin();
    let load = |backend: &str| {
        let mut builder = ConfigBuilder::new(&Registry::builtin());
        builder.flag("a test", "model.path", &file.path().display().to_string()).unwrap();
        builder.flag("a test", "backend.name", backend).unwrap();
        LoadedModel::load(&builder.build().unwrap(), &registry, &mut |_| {})
    };
    assert!(matches!(load("cpu"), Err(LoadError::Text { source: TextError::UnsupportedKind { .. }, .. })));
    let text = load("llama-cpp").unwrap().text;
    let tokens = text.encode("hi ho", PromptStyle::Raw).unwrap();
    assert_eq!(text.tokenizer.decode(&tokens).unwrap().trim_start(), "hi ho");
    assert_eq!(text.tokenizer.name(264).as_deref(), Some("▁hi"));
    assert!(tokens.contains(&265) && text.tokenizer.is_eos(2), "{tokens:?}");
}
