use proptest::prelude::*;
use upcycle_text::{Specials, TextError, WHITESPACE_RUN_LIMIT};

use crate::model::{GGUF, TOKENIZER, Tiny};

#[test]
fn the_real_vocabulary() {
    let tokenizer = &*TOKENIZER;
    assert_eq!(tokenizer.vocab_size(), 49_152);
    assert_eq!(tokenizer.bos(), Some(1));
    assert!(!tokenizer.add_bos());
    // `<reponame>` is the fourth: it ends code, as in llama.cpp.
    assert_eq!(tokenizer.eos_ids(), [0, 2, 4]);
    assert!(tokenizer.is_eos(2) && !tokenizer.is_eos(1));
    assert_eq!(tokenizer.template_tokens().bos.as_deref(), Some("<|im_start|>"));
    assert_eq!(tokenizer.template_tokens().eos.as_deref(), Some("<|im_end|>"));
    assert_eq!(tokenizer.token_bytes(19556).unwrap(), b"Hello");
    assert_eq!(tokenizer.token_bytes(2).unwrap(), b"");
    assert!(matches!(
        tokenizer.token_bytes(49_152),
        Err(TextError::UnknownToken { id: 49_152, vocab_size: 49_152 })
    ));
}

#[test]
fn known_encodings() {
    let tokenizer = &*TOKENIZER;
    let encode = |text| tokenizer.encode(text, Specials::Plain).unwrap();
    assert_eq!(encode("Hello"), [19556]);
    assert_eq!(encode(""), [0; 0]);
    // This vocabulary has no tokens of several digits.
    assert_eq!(encode("2024").len(), 4);
    assert_eq!(tokenizer.decode(&encode("Hello")).unwrap(), "Hello");
}

#[test]
fn name_returns_the_token_as_the_vocabulary_writes_it() {
    let tokenizer = &*TOKENIZER;
    let names = [1, 2, 260, 49_152].map(|token| tokenizer.name(token));
    assert_eq!(
        names,
        [Some("<|im_start|>".to_owned()), Some("<|im_end|>".to_owned()), Some("Ġthe".to_owned()), None]
    );
}

#[test]
fn special_tokens_are_parsed_or_plain_text() {
    let tokenizer = &*TOKENIZER;
    let text = "<|im_start|>user\nHi<|im_end|>";
    let parsed = tokenizer.encode(text, Specials::Parse).unwrap();
    assert_eq!((parsed[0], parsed[parsed.len() - 1]), (1, 2));
    assert_eq!(tokenizer.decode(&parsed).unwrap(), "user\nHi");

    let plain = tokenizer.encode(text, Specials::Plain).unwrap();
    assert!(plain.iter().all(|&token| token > 16), "{plain:?}");
    assert_eq!(tokenizer.decode(&plain).unwrap(), text);
}

#[test]
fn user_defined_tokens_are_always_parsed_and_contribute_text() {
    let tokenizer = Tiny::default().build().unwrap();
    let text = "a<think>b<|im_end|>";
    let think = tokenizer.encode("<think>", Specials::Plain).unwrap();
    assert_eq!(think.len(), 1);
    assert!(tokenizer.encode(text, Specials::Plain).unwrap().contains(&think[0]));
    let parsed = tokenizer.encode(text, Specials::Parse).unwrap();
    assert_eq!(parsed.len(), 4);
    assert_eq!(tokenizer.decode(&parsed).unwrap(), "a<think>b");
}

#[test]
fn merges_apply_in_order_of_rank() {
    let tokenizer = Tiny::default().build().unwrap();
    let pieces = |text: &str| -> Vec<String> {
        let tokens = tokenizer.encode(text, Specials::Plain).unwrap();
        tokens
            .iter()
            .map(|&token| String::from_utf8(tokenizer.token_bytes(token).unwrap().to_vec()).unwrap())
            .collect()
    };
    assert_eq!(pieces("hello he"), ["hel", "lo", " he"]);
    // `h e` comes before `l o`, so `hel` takes the only `l`.
    assert_eq!(pieces("helo"), ["hel", "o"]);
}

#[test]
fn a_byte_without_a_token_is_an_error() {
    let error = TOKENIZER.encode("a bell\u{13}", Specials::Plain).unwrap_err();
    assert!(matches!(error, TextError::Unencodable { byte: 0x13, .. }), "{error}");
    let error = Tiny::default().build().unwrap().encode("naïve", Specials::Parse).unwrap_err();
    assert!(matches!(&error, TextError::Unencodable { byte: 0xaf, piece } if piece == "naïve"), "{error}");
}

#[test]
fn long_runs_of_whitespace_are_split_correctly_or_refused() {
    let tokenizer = &*TOKENIZER;
    let end = tokenizer.encode(" tail: the words after it", Specials::Plain).unwrap();
    let text = format!("{} tail: the words after it", " ".repeat(WHITESPACE_RUN_LIMIT - 1));
    let tokens = tokenizer.encode(&text, Specials::Plain).unwrap();
    assert!(tokens.ends_with(&end));
    let error = tokenizer.encode(&" ".repeat(WHITESPACE_RUN_LIMIT + 1), Specials::Plain).unwrap_err();
    assert!(matches!(error, TextError::WhitespaceRun { found, .. } if found == WHITESPACE_RUN_LIMIT + 1));
}

#[test]
fn different_vocabularies_have_different_fingerprints() {
    let tiny = || Tiny::default().build().unwrap().fingerprint();
    assert_eq!(tiny(), tiny());
    assert_ne!(tiny(), TOKENIZER.fingerprint());
    let mut swapped = Tiny::default();
    swapped.tokens.swap(0, 1);
    assert_ne!(tiny(), swapped.build().unwrap().fingerprint());
    assert_eq!(TOKENIZER.fingerprint(), upcycle_text::Tokenizer::from_gguf(&GGUF).unwrap().fingerprint());
}

#[test]
fn end_tokens_are_found_by_key_and_by_name() {
    let tokenizer = |added: &[(&str, i32)], more: Vec<(&'static str, u32)>| {
        let mut tiny = Tiny::default();
        tiny.tokens.truncate(94);
        tiny.merges.clear();
        tiny.tokens.extend(added.iter().map(|&(token, kind)| (token.to_owned(), kind)));
        tiny.more = more.into_iter().map(|(key, id)| (key, id.into())).collect();
        tiny.build().unwrap()
    };
    assert!(tokenizer(&[], vec![]).eos_ids().is_empty());
    let keys = vec![("tokenizer.ggml.eos_token_id", 3), ("tokenizer.ggml.eot_token_id", 1)];
    assert_eq!(tokenizer(&[], keys).eos_ids(), [1, 3]);
    assert_eq!(
        tokenizer(&[("<|eot_id|>", 3), ("</s>", 1), ("<|endoftext|>", 4)], vec![]).eos_ids(),
        [94, 95, 96]
    );
    assert_eq!(tokenizer(&[("<|end|>", 3)], vec![]).eos_ids(), [94]);
    let harmony = [("<|end|>", 3), ("<|return|>", 3), ("<|call|>", 3)];
    assert_eq!(tokenizer(&harmony, vec![]).eos_ids(), [95, 96]);
}

#[test]
fn invalid_vocabularies_are_typed_errors() {
    let error = |change: fn(&mut Tiny)| {
        let mut tiny = Tiny::default();
        change(&mut tiny);
        tiny.build().unwrap_err()
    };
    assert!(
        matches!(error(|tiny| tiny.model = "bert"), TextError::UnsupportedKind { found, .. } if found == "bert")
    );
    assert!(matches!(error(|tiny| tiny.pre = "x"), TextError::UnknownPreTokenizer { .. }));
    assert!(matches!(error(|tiny| tiny.tokens.push(("he".into(), 1))), TextError::DuplicateToken { .. }));
    assert!(matches!(error(|tiny| tiny.tokens.clear()), TextError::VocabularySize { found: 0, .. }));
    for merge in ["h", "h  e", "a b", "zz e", ""] {
        let mut tiny = Tiny::default();
        tiny.merges[2] = merge;
        let error = tiny.build().unwrap_err();
        assert!(matches!(error, TextError::InvalidMerge { index: 2, .. }), "{merge:?}: {error}");
    }
    // The library would write past its buffer.
    let error_long = error(|tiny| tiny.merges.push("<|im_end|> <|im_end|>"));
    assert!(matches!(error_long, TextError::InvalidMerge { index: 4, .. }));
    let types = error(|tiny| tiny.more.push(("tokenizer.ggml.token_type", vec![1, 1].into())));
    assert!(matches!(types, TextError::LengthMismatch { found: 2, .. }));
    let wrong = error(|tiny| tiny.more.push(("tokenizer.ggml.eos_token_id", "two".into())));
    assert!(matches!(wrong, TextError::Gguf(_)));
}

#[test]
fn tokens_without_text_are_never_encoded() {
    let mut tiny = Tiny::default();
    tiny.tokens.extend([(String::new(), 1), (String::new(), 3)]);
    let tokenizer = tiny.build().unwrap();
    let last = tokenizer.vocab_size() as u32 - 1;
    assert_eq!(tokenizer.decode(&[last, last - 1]).unwrap(), "");
    assert_eq!(tokenizer.encode("", Specials::Parse).unwrap(), [0; 0]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn decoding_reverses_encoding(text in any::<String>()) {
        match TOKENIZER.encode(&text, Specials::Plain) {
            Ok(tokens) => prop_assert_eq!(TOKENIZER.decode(&tokens).unwrap(), text),
            Err(error) => prop_assert!(matches!(error, TextError::Unencodable { .. }), "{}", error),
        }
    }

    #[test]
    fn names_of_special_tokens_survive_plain_encoding(
        parts in prop::collection::vec(prop::sample::select(vec![
            "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|", "|>", " ", "user\n", "<file_sep>", "é",
        ]), 0..12)
    ) {
        let text = parts.concat();
        let tokens = TOKENIZER.encode(&text, Specials::Plain).unwrap();
        prop_assert!(tokens.iter().all(|&token| token > 16));
        prop_assert_eq!(TOKENIZER.decode(&tokens).unwrap(), text);
    }

    #[test]
    fn no_vocabulary_panics(
        tokens in prop::collection::vec(("[abcĠ<> ]{0,3}|</s>|é", -1..8_i32), 0..12),
        merges in prop::collection::vec("[abcĠ]{0,2} ?[abcĠ]{0,2}", 0..6),
        text in "[abc <>]{0,12}",
    ) {
        let merges: upcycle_checkpoint::gguf::StringArray = merges.iter().collect();
        let mut tiny = Tiny { tokens, merges: Vec::new(), pre: "llama-bpe", ..Tiny::default() };
        // Without this, duplicates would make most vocabularies fail early.
        let mut seen = std::collections::HashSet::new();
        tiny.tokens.retain(|(token, kind)| *kind == 4 || seen.insert(token.clone()));
        tiny.more.push(("tokenizer.ggml.merges", merges.into()));
        if let Ok(tokenizer) = tiny.build() {
            for specials in [Specials::Parse, Specials::Plain] {
                if let Ok(tokens) = tokenizer.encode(&text, specials) {
                    prop_assert!(text.len() >= tokenizer.decode(&tokens).unwrap().len());
                }
            }
        }
    }
}
