//! Vocabularies that converters wrote carelessly. llama.cpp loads each of them with a warning.

use std::io::Cursor;

use proptest::prelude::*;
use upcycle_checkpoint::gguf::write::GgufWriter;
use upcycle_checkpoint::gguf::{Gguf, StringArray, Value};
use upcycle_text::{Specials, TextError, Tokenizer};

use crate::model::Tiny;

/// llama.cpp's names of tokens that end generation.
const ENDS: &[&str] = &[
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "[e~[",
    "<｜end▁of▁sentence｜>",
    "<|fim_pad|>",
    "<fim_pad>",
    "[PAD]",
    "<|repo_name|>",
    "<reponame>",
    "<|file_sep|>",
];

/// llama.cpp's names of control tokens that end nothing.
const CONTROLS: &[&str] =
    &["<|fim_prefix|>", "<fim_suffix>", "<MID>", "▁<PRE>", "<｜fim▁hole｜>", "<|code_middle|>"];

fn tiny_with(name: &str, kind: i32) -> Tokenizer {
    let mut tiny = Tiny::default();
    tiny.tokens.retain(|(token, _)| token != "<|im_end|>");
    tiny.tokens.push((name.to_owned(), kind));
    tiny.build().unwrap()
}

#[test]
fn tokens_that_look_like_control_tokens_are_control_tokens() {
    for (names, end) in [(ENDS, true), (CONTROLS, false)] {
        for (name, kind) in names.iter().flat_map(|name| (1..=6).map(move |kind| (name, kind))) {
            let tokenizer = tiny_with(name, kind);
            let id = tokenizer.vocab_size() as u32 - 1;
            assert_eq!(tokenizer.is_eos(id), end, "{name} of type {kind}");
            assert_eq!(tokenizer.token_bytes(id).unwrap(), b"", "{name} of type {kind}");
            let text = format!("a{name}");
            assert_eq!(
                tokenizer.encode(&text, Specials::Parse).unwrap().last(),
                Some(&id),
                "{name} of type {kind}"
            );
            let plain = tokenizer.encode(&text, Specials::Plain);
            assert!(plain.is_err() || !plain.unwrap().contains(&id), "a message cannot write {name}");
        }
    }
    // Other names keep their type.
    let think = tiny_with("<|think|>", 4);
    let id = think.vocab_size() as u32 - 1;
    assert_eq!((think.is_eos(id), think.token_bytes(id).unwrap()), (false, &b"<|think|>"[..]));
}

#[test]
fn a_tokenizer_json_takes_control_tokens_by_their_names() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    let json = serde_json::json!({
        "version": "1.0", "added_tokens": [{
            "id": 2, "content": "<end_of_turn>", "special": false, "normalized": false,
            "single_word": false, "lstrip": false, "rstrip": false
        }],
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "vocab": {"a": 0, "<|im_end|>": 1, "<end_of_turn>": 2}, "merges": []}
    });
    std::fs::write(&path, json.to_string()).unwrap();
    let tokenizer = Tokenizer::from_file(&path).unwrap();
    assert_eq!(tokenizer.eos_ids(), [1, 2]);
    assert_eq!(tokenizer.encode("a<|im_end|><end_of_turn>", Specials::Parse).unwrap(), [0, 1, 2]);
    assert_eq!(tokenizer.decode(&[0, 1, 2]).unwrap(), "a");
}

/// A SentencePiece vocabulary: `<unk>`, `<s>`, `</s>`, the bytes if wanted, then these pieces with falling scores.
struct Pieces {
    bytes: bool,
    pieces: Vec<(&'static str, i32)>,
    omit: &'static [&'static str],
    more: Vec<(&'static str, Value)>,
}

impl Default for Pieces {
    fn default() -> Self {
        let pieces = vec![("▁▁", 1), ("▁a", 1), ("▁", 1), ("a", 1), ("b", 1), ("ab", 1)];
        Self { bytes: true, pieces, omit: &[], more: Vec::new() }
    }
}

impl Pieces {
    fn build(self) -> Result<Tokenizer, TextError> {
        let mut tokens: Vec<(String, i32)> =
            [("<unk>", 2), ("<s>", 3), ("</s>", 3)].map(|(token, kind)| (token.to_owned(), kind)).into();
        if self.bytes {
            tokens.extend((0..=255_u8).map(|byte| (format!("<0x{byte:02X}>"), 6)));
        }
        tokens.extend(self.pieces.iter().map(|&(piece, kind)| (piece.to_owned(), kind)));
        let scores: Vec<f32> = (0..tokens.len()).map(|at| -(at as f32)).collect();
        let keys: Vec<(&'static str, Value)> = vec![
            ("tokenizer.ggml.scores", scores.into()),
            ("tokenizer.ggml.token_type", tokens.iter().map(|&(_, kind)| kind).collect::<Vec<i32>>().into()),
            ("tokenizer.ggml.unknown_token_id", 0_u32.into()),
            ("tokenizer.ggml.bos_token_id", 1_u32.into()),
            ("tokenizer.ggml.eos_token_id", 2_u32.into()),
        ];
        let mut writer = GgufWriter::new().metadata("tokenizer.ggml.model", "llama").metadata(
            "tokenizer.ggml.tokens",
            tokens.iter().map(|(token, _)| token).collect::<StringArray>(),
        );
        let replaced =
            |key: &str| self.omit.contains(&key) || self.more.iter().any(|(other, _)| *other == key);
        for (key, value) in keys.into_iter().filter(|(key, _)| !replaced(key)) {
            writer = writer.metadata(key, value);
        }
        for (key, value) in self.more {
            writer = writer.metadata(key, value);
        }
        Tokenizer::from_gguf(&Gguf::read(&mut Cursor::new(writer.to_bytes().unwrap())).unwrap())
    }
}

#[test]
fn user_defined_runs_of_spaces_are_joined_like_other_pieces() {
    let mut vocabulary = Pieces::default();
    vocabulary.pieces.push(("▁▁▁", 4));
    let last = 3 + 256 + vocabulary.pieces.len() as u32 - 1;
    // User-defined pieces have the highest score.
    let mut scores: Vec<f32> = (0..=last).map(|at| -(at as f32)).collect();
    scores[last as usize] = 0.0;
    vocabulary.more.push(("tokenizer.ggml.scores", scores.into()));
    let tokenizer = vocabulary.build().unwrap();
    let tokens = tokenizer.encode("  b", Specials::Plain).unwrap();
    assert_eq!(tokens.first(), Some(&last), "{tokens:?}");
    assert_eq!(tokenizer.decode(&tokens).unwrap(), "  b");
    assert_eq!(tokenizer.token_bytes(last).unwrap(), b"   ");
}

#[test]
fn bytes_stand_for_text_without_pieces_whatever_the_unknown_token_is() {
    const UNKNOWN: &str = "tokenizer.ggml.unknown_token_id";
    for pieces in [
        Pieces::default(),
        Pieces { omit: &[UNKNOWN], ..Pieces::default() },
        Pieces { more: vec![(UNKNOWN, u32::MAX.into())], ..Pieces::default() },
    ] {
        let tokenizer = pieces.build().unwrap();
        for text in ["a\nb", "é", "🦀 a", "\0", "a b  c"] {
            let tokens = tokenizer.encode(text, Specials::Plain).unwrap();
            assert!(!tokens.contains(&0), "{text:?} {tokens:?}");
            assert_eq!(tokenizer.decode(&tokens).unwrap(), text);
        }
    }
    // Not even an unknown token, since the id names no text.
    let mut tiny = Pieces { bytes: false, ..Pieces::default() };
    tiny.more.push(("tokenizer.ggml.unknown_token_id", 3_u32.into()));
    assert!(tiny.build().unwrap().encode("a", Specials::Plain).is_ok());
}

#[test]
fn special_ids_out_of_range_leave_the_default() {
    for id in [u32::MAX, 99_999] {
        let keys = ["bos", "eos", "eot", "eom", "unknown", "padding", "fim_pad"];
        let all = || keys.map(|key| (format!("tokenizer.ggml.{key}_token_id"), Value::from(id)));
        let tokenizer =
            Pieces { more: all().map(|(key, value)| (&*key.leak(), value)).into(), ..Pieces::default() }
                .build()
                .unwrap();
        assert_eq!((tokenizer.bos(), tokenizer.eos_ids()), (Some(1), &[2][..]));
        let mut tiny = Tiny::default();
        tiny.more.extend(all().map(|(key, value)| (&*key.leak(), value)));
        let tokenizer = tiny.build().unwrap();
        assert_eq!((tokenizer.bos(), tokenizer.eos_ids().len()), (None, 1), "`<|im_end|>` by its name");
    }
    let negative =
        Pieces { more: vec![("tokenizer.ggml.bos_token_id", (-1_i32).into())], ..Pieces::default() };
    assert_eq!(negative.build().unwrap().bos(), Some(1));
}

#[test]
fn what_a_file_does_not_say_has_a_default() {
    let all: &[&str] = &[
        "tokenizer.ggml.scores",
        "tokenizer.ggml.token_type",
        "tokenizer.ggml.unknown_token_id",
        "tokenizer.ggml.bos_token_id",
        "tokenizer.ggml.eos_token_id",
    ];
    for omit in all.chunks(1).chain([all]) {
        let tokenizer =
            Pieces { omit, ..Pieces::default() }.build().unwrap_or_else(|error| panic!("{omit:?}: {error}"));
        assert_eq!(
            (tokenizer.bos(), tokenizer.add_bos(), tokenizer.eos_ids()),
            (Some(1), true, &[2][..]),
            "{omit:?}"
        );
        let tokens = tokenizer.encode("a ab\n", Specials::Plain).unwrap();
        assert_eq!(tokenizer.decode(&tokens).unwrap(), "a ab\n", "{omit:?}");
    }
    let whole =
        Pieces { more: vec![("tokenizer.ggml.scores", vec![1_i32; 265].into())], ..Pieces::default() };
    assert!(whole.build().is_ok(), "llama.cpp takes whole numbers as scores");
}

#[test]
fn a_byte_level_file_needs_no_rule_and_no_types() {
    for without in [
        &["tokenizer.ggml.pre"][..],
        &["tokenizer.ggml.token_type"],
        &["tokenizer.ggml.pre", "tokenizer.ggml.token_type"],
    ] {
        let tokens = Tiny::default().tokens;
        let mut writer = GgufWriter::new()
            .metadata("tokenizer.ggml.model", "gpt2")
            .metadata("tokenizer.ggml.tokens", tokens.iter().map(|(token, _)| token).collect::<StringArray>())
            .metadata("tokenizer.ggml.merges", ["h e", "he l", "l o"].iter().collect::<StringArray>());
        if !without.contains(&"tokenizer.ggml.pre") {
            writer = writer.metadata("tokenizer.ggml.pre", "gpt-2");
        }
        if !without.contains(&"tokenizer.ggml.token_type") {
            let types: Vec<i32> = tokens.iter().map(|&(_, kind)| kind).collect();
            writer = writer.metadata("tokenizer.ggml.token_type", types);
        }
        let tokenizer =
            Tokenizer::from_gguf(&Gguf::read(&mut Cursor::new(writer.to_bytes().unwrap())).unwrap()).unwrap();
        let end = tokens.iter().position(|(token, _)| token == "<|im_end|>").unwrap() as u32;
        assert_eq!(tokenizer.eos_ids(), [end], "{without:?}");
        let encoded = tokenizer.encode("hello<|im_end|>", Specials::Parse).unwrap();
        assert_eq!(tokenizer.decode(&encoded).unwrap(), "hello");
        assert_eq!((encoded.len(), encoded.last()), (3, Some(&end)));
    }
    // An empty name is none.
    assert!(Tiny { pre: "", ..Tiny::default() }.build().is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn text_comes_back_from_a_vocabulary_without_an_unknown_token(text in "[ab é🦀\n]{0,12}") {
        let tokenizer = Pieces { omit: &["tokenizer.ggml.unknown_token_id"], ..Pieces::default() }.build().unwrap();
        let tokens = tokenizer.encode(&text, Specials::Plain).unwrap();
        prop_assert_eq!(tokenizer.decode(&tokens).unwrap(), text);
    }
}
