use proptest::prelude::*;
use upcycle_text::{Specials, TextError};

use crate::model::{TOKENIZER, Tiny};

#[test]
fn characters_are_held_until_they_are_complete() {
    let tokenizer = Tiny::default().build().unwrap();
    let crab = tokenizer.encode("🦀", Specials::Plain).unwrap();
    assert_eq!(crab.len(), 4);
    let mut detokenizer = tokenizer.detokenizer();
    for &byte in &crab[..3] {
        assert_eq!(detokenizer.push(byte).unwrap(), "");
    }
    assert_eq!(detokenizer.push(crab[3]).unwrap(), "🦀");
    assert_eq!(detokenizer.finish(), "");
}

#[test]
fn bytes_that_cannot_form_a_character_are_replaced() {
    let tokenizer = Tiny::default().build().unwrap();
    let crab = tokenizer.encode("🦀", Specials::Plain).unwrap();
    let a = tokenizer.encode("a", Specials::Plain).unwrap()[0];
    let mut detokenizer = tokenizer.detokenizer();
    assert_eq!(detokenizer.push(crab[0]).unwrap(), "");
    assert_eq!(detokenizer.push(a).unwrap(), "\u{fffd}a");
    assert_eq!(detokenizer.push(crab[0]).unwrap(), "");
    assert_eq!(detokenizer.finish(), "\u{fffd}");
    // A new text starts without pending bytes.
    assert_eq!(detokenizer.push(crab[1]).unwrap(), "\u{fffd}");
    assert_eq!(detokenizer.finish(), "");
}

#[test]
fn an_unknown_token_changes_nothing() {
    let tokenizer = Tiny::default().build().unwrap();
    let crab = tokenizer.encode("🦀", Specials::Plain).unwrap();
    let mut detokenizer = tokenizer.detokenizer();
    detokenizer.push(crab[0]).unwrap();
    assert!(matches!(detokenizer.push(u32::MAX), Err(TextError::UnknownToken { id: u32::MAX, .. })));
    for &byte in &crab[1..3] {
        assert_eq!(detokenizer.push(byte).unwrap(), "");
    }
    assert_eq!(detokenizer.push(crab[3]).unwrap(), "🦀");
}

/// Random tokens of the real vocabulary, with many that hold only a part of a character.
fn tokens() -> impl Strategy<Value = Vec<u32>> {
    let partial: Vec<u32> = (0..TOKENIZER.vocab_size() as u32)
        .filter(|&token| str::from_utf8(TOKENIZER.token_bytes(token).unwrap()).is_err())
        .collect();
    assert!(partial.len() > 100, "the real vocabulary has tokens that are parts of characters");
    prop::collection::vec(prop_oneof![0..49_152_u32, prop::sample::select(partial)], 0..64)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn pieces_join_to_the_full_text(tokens in tokens()) {
        let mut detokenizer = TOKENIZER.detokenizer();
        let mut text = String::new();
        let mut bytes = Vec::new();
        for &token in &tokens {
            text.push_str(detokenizer.push(token).unwrap());
            bytes.extend(TOKENIZER.token_bytes(token).unwrap());
            // No more than the beginning of one character is held back.
            prop_assert!(String::from_utf8_lossy(&bytes).starts_with(&text));
            prop_assert!(String::from_utf8_lossy(&bytes).chars().count() <= text.chars().count() + 1);
        }
        text.push_str(detokenizer.finish());
        prop_assert_eq!(text, TOKENIZER.decode(&tokens).unwrap());
    }
}
