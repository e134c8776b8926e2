//! SentencePiece BPE, compared with SentencePiece itself. `fixtures/make.py` made the vocabulary and the expected tokens.

use std::io::Cursor;
use std::sync::LazyLock;

use serde::Deserialize;
use upcycle_checkpoint::gguf::write::GgufWriter;
use upcycle_checkpoint::gguf::{Gguf, StringArray};
use upcycle_text::{Specials, TextError, Tokenizer};

#[derive(Deserialize)]
struct Fixture {
    tokens: Vec<String>,
    scores: Vec<f32>,
    types: Vec<i32>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    text: String,
    ids: Vec<u32>,
}

static FIXTURE: LazyLock<Fixture> =
    LazyLock::new(|| serde_json::from_str(include_str!("../fixtures/sentencepiece.json")).unwrap());

/// The vocabulary as a GGUF file, with changes.
fn gguf(change: impl FnOnce(GgufWriter) -> GgufWriter) -> Gguf {
    let Fixture { tokens, scores, types, .. } = &*FIXTURE;
    let writer = GgufWriter::new()
        .metadata("tokenizer.ggml.model", "llama")
        .metadata("tokenizer.ggml.tokens", tokens.iter().map(String::as_str).collect::<StringArray>())
        .metadata("tokenizer.ggml.scores", scores.clone())
        .metadata("tokenizer.ggml.token_type", types.clone())
        .metadata("tokenizer.ggml.unknown_token_id", 0_u32)
        .metadata("tokenizer.ggml.bos_token_id", 1_u32)
        .metadata("tokenizer.ggml.eos_token_id", 2_u32);
    Gguf::read(&mut Cursor::new(change(writer).to_bytes().unwrap())).unwrap()
}

fn tokenizer() -> Tokenizer {
    Tokenizer::from_gguf(&gguf(|writer| writer)).unwrap()
}

/// The cases without user-defined tokens: SentencePiece adds no space after those, but llama.cpp and Hugging Face do.
fn cases() -> impl Iterator<Item = &'static Case> {
    FIXTURE.cases.iter().filter(|case| !case.text.contains("<|user|>"))
}

#[test]
fn texts_encode_as_sentencepiece_encodes_them() {
    let tokenizer = tokenizer();
    let mut count = 0;
    for Case { text, ids } in cases().filter(|case| !case.text.is_empty()) {
        assert_eq!(&tokenizer.encode(text, Specials::Plain).unwrap(), ids, "{text:?}");
        count += 1;
    }
    assert!(count > 440, "{count} strings");
}

#[test]
fn decoding_and_streaming_give_the_text_back() {
    let tokenizer = tokenizer();
    for Case { text, ids } in cases() {
        // The vocabulary reads a typed `▁` as a space.
        let expected = text.replace('▁', " ");
        assert_eq!(tokenizer.decode(ids).unwrap(), expected);
        let mut detokenizer = tokenizer.detokenizer();
        let mut streamed = String::new();
        ids.iter().for_each(|&id| streamed.push_str(detokenizer.push(id).unwrap()));
        streamed.push_str(detokenizer.finish());
        assert_eq!(streamed, expected);
    }
}

#[test]
fn names_of_special_tokens_are_text_unless_parsed() {
    let tokenizer = tokenizer();
    let text = "a</s>b";
    let plain = tokenizer.encode(text, Specials::Plain).unwrap();
    assert!(!plain.contains(&2), "{plain:?}");
    assert_eq!(tokenizer.decode(&plain).unwrap(), text);
    let parsed = tokenizer.encode(text, Specials::Parse).unwrap();
    let place = parsed.iter().position(|&id| id == 2).unwrap();
    // The text after a special token gets its own space prefix.
    assert_eq!(parsed[..place], tokenizer.encode("a", Specials::Plain).unwrap());
    assert_eq!(parsed[place + 1..], tokenizer.encode("b", Specials::Plain).unwrap());
    assert_eq!((tokenizer.bos(), tokenizer.add_bos(), tokenizer.eos_ids()), (Some(1), true, &[2][..]));
}

#[test]
fn a_file_can_turn_the_space_prefix_off() {
    let without = Tokenizer::from_gguf(&gguf(|writer| {
        writer
            .metadata("tokenizer.ggml.add_space_prefix", false)
            .metadata("tokenizer.ggml.add_bos_token", false)
    }))
    .unwrap();
    let ids = without.encode("Hello", Specials::Plain).unwrap();
    let with = tokenizer().encode("Hello", Specials::Plain).unwrap();
    assert_ne!(ids, with);
    assert_eq!(without.decode(&with).unwrap(), " Hello");
    assert_eq!(without.decode(&ids).unwrap(), "Hello");
    assert!(!without.add_bos());
    assert_ne!(without.fingerprint(), tokenizer().fingerprint());
}

#[test]
fn a_tokenizer_json_gives_the_same_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    let (json, config) = tokenizer().to_json(None).unwrap();
    std::fs::write(&path, &json).unwrap();
    std::fs::write(path.with_file_name("tokenizer_config.json"), config).unwrap();
    // Newer files use one `Metaspace` step instead of two steps.
    let newer = folder.path().join("newer.json");
    let mut value: serde_json::Value = serde_json::from_str(&json).unwrap();
    value["normalizer"] = serde_json::Value::Null;
    value["pre_tokenizer"] = serde_json::json!({
        "type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": false
    });
    std::fs::write(&newer, value.to_string()).unwrap();
    for path in [&path, &newer] {
        let read = Tokenizer::from_file(path).unwrap();
        for Case { text, ids } in cases().filter(|case| !case.text.is_empty()) {
            // `Metaspace` adds no space to a text that starts with one.
            if path == &newer && text.starts_with([' ', '▁']) {
                continue;
            }
            assert_eq!(&read.encode(text, Specials::Plain).unwrap(), ids, "{path:?} {text:?}");
            assert_eq!(read.decode(ids).unwrap(), text.replace('▁', " "));
        }
    }
}

#[test]
fn too_few_scores_are_refused() {
    let tokens: StringArray = ["<unk>", "a"].into_iter().collect();
    let writer = GgufWriter::new()
        .metadata("tokenizer.ggml.model", "llama")
        .metadata("tokenizer.ggml.tokens", tokens)
        .metadata("tokenizer.ggml.token_type", vec![2, 1])
        .metadata("tokenizer.ggml.scores", vec![0.0_f32; 1]);
    let broken = Gguf::read(&mut Cursor::new(writer.to_bytes().unwrap())).unwrap();
    let error = Tokenizer::from_gguf(&broken).unwrap_err();
    assert!(
        matches!(error, TextError::LengthMismatch { key: "tokenizer.ggml.scores", found: 1, .. }),
        "{error}"
    );
}
