//! The tokenizer that `upcycle-text` builds from the file, beside llama.cpp's own.

use std::path::Path;

use upcycle_checkpoint::gguf::write::GgufWriter;
use upcycle_checkpoint::gguf::{Gguf, StringArray};
use upcycle_llama_cpp::Vocabulary;
use upcycle_testkit::real_model;
use upcycle_testkit::tiny::{self, Tiny};
use upcycle_text::{Specials, Tokenizer};

/// What texts are put together from.
const PIECES: &[&str] = &[
    "the",
    "The",
    "THE",
    "don't",
    "I'll",
    "we've",
    "O'Brien's",
    "naïve",
    "café",
    "Straße",
    "ÅNGSTRÖM",
    "İstanbul",
    "ﬁ",
    "e\u{301}",
    "a\u{308}\u{304}",
    "q\u{323}\u{307}",
    "\u{200d}",
    "\u{200b}",
    "\u{feff}",
    "\u{a0}",
    "\u{3000}",
    "你好",
    "世界。",
    "東京タワー",
    "ひらがな",
    "한국어",
    "שלום",
    "مرحبا",
    "नमस्ते",
    "ไทย",
    "Привет",
    "😀",
    "👩‍👩‍👧‍👦",
    "🇩🇪",
    "👍🏽",
    "∑x²≤√π",
    "→",
    "…",
    "—",
    "“quoted”",
    "«»",
    "0",
    "7",
    "42",
    "2024",
    "3.14159",
    "1,000,000",
    "½",
    "0xFF",
    "1e-9",
    "::",
    "->",
    "=>",
    "!=",
    "&&",
    "fn main() {",
    "}",
    "let mut x = vec![1, 2];",
    "#include <stdio.h>",
    "def f(x):\n    return x**2",
    "SELECT * FROM t WHERE a='b';",
    "<div class=\"x\">",
    "</html>",
    "https://example.org/?q=1&r=2",
    "a_b_c",
    "camelCase",
    "SCREAMING_CASE",
    "$var",
    "@user",
    "#tag",
    "\\n",
    "`code`",
    "***",
    "---",
    "???!!!",
    "(",
    ")]",
    "{}",
    " ",
    "  ",
    "   ",
    "        ",
    "\t",
    "\t\t",
    "\n",
    "\n\n",
    "\n\n\n",
    "\r\n",
    " \n",
    "\n ",
    " \t ",
    "\u{0}",
    "\u{1}",
    "\u{7f}",
    "<|im_start|>",
    "<|im_end|>",
    "<|endoftext|>",
    "<|im_",
    "user",
    "supercalifragilisticexpialidocious",
    "zzzzzzzzzzzzzzzzz",
];

/// 500 texts: each piece alone, then ever longer mixtures of them, and runs of single characters.
fn texts() -> Vec<String> {
    let mut texts: Vec<String> = PIECES.iter().map(|&piece| piece.to_owned()).collect();
    let mut rng = fastrand::Rng::with_seed(7);
    while texts.len() < 470 {
        let (count, spaced) = (rng.usize(2..12), rng.bool());
        let pieces: Vec<&str> = (0..count).map(|_| PIECES[rng.usize(..PIECES.len())]).collect();
        texts.push(pieces.join(if spaced { " " } else { "" }));
    }
    while texts.len() < 500 {
        // Any characters of the planes that have some, the unassigned ones too. (The vocabulary lacks bytes of the others.)
        texts.push((0..rng.usize(1..40)).map(|_| rng.char('\0'..'\u{30000}')).collect());
    }
    texts
}

#[test]
fn both_tokenizers_agree_on_500_texts() {
    agree(&real_model());
}

/// A vocabulary of SentencePiece's kind, as Llama 2 and Mistral have it.
#[test]
fn both_agree_on_sentencepiece_too() {
    let fixture: serde_json::Value =
        serde_json::from_str(include_str!("../../text/tests/fixtures/sentencepiece.json"))
            .expect("a fixture");
    let list = |key: &str| fixture[key].as_array().expect("a list");
    let tokens: StringArray = list("tokens").iter().map(|token| token.as_str().expect("a token")).collect();
    let scores: Vec<f32> =
        list("scores").iter().map(|score| score.as_f64().expect("a score") as f32).collect();
    let types: Vec<i32> = list("types").iter().map(|kind| kind.as_i64().expect("a type") as i32).collect();
    let vocabulary = GgufWriter::new()
        .metadata("tokenizer.ggml.model", "llama")
        .metadata("tokenizer.ggml.pre", "default")
        .metadata("tokenizer.ggml.tokens", tokens)
        .metadata("tokenizer.ggml.scores", scores)
        .metadata("tokenizer.ggml.token_type", types.clone())
        .metadata("tokenizer.ggml.unknown_token_id", 0_u32)
        .metadata("tokenizer.ggml.bos_token_id", 1_u32)
        .metadata("tokenizer.ggml.eos_token_id", 2_u32);
    let tiny = Tiny { vocab: types.len(), ..Tiny::default() };
    agree(tiny::write(&tiny.with_vocabulary(vocabulary, None)).path());
}

fn agree(path: &Path) {
    let own = Tokenizer::from_gguf(&Gguf::open(path).expect("a model")).expect("a tokenizer");
    let theirs = Vocabulary::load(path).expect("a vocabulary");
    let (texts, mut differ) = (texts(), Vec::new());
    assert_eq!(texts.len(), 500);
    for text in &texts {
        for (specials, parse) in [(Specials::Parse, true), (Specials::Plain, false)] {
            let own = own.encode(text, specials).expect("bytes for all");
            let other = theirs.tokenize(text, parse);
            if Ok(&own) != other.as_ref() {
                differ.push(format!("{text:?} ({specials:?}): {own:?}, llama.cpp {other:?}"));
            }
        }
    }
    assert_eq!(theirs.pieces().len(), own.vocab_size());
    // llama.cpp ends a text at the separators of code infilling too.
    assert!(own.eos_ids().iter().all(|end| theirs.ends().contains(end)), "{:?}", theirs.ends());
    assert_eq!(theirs.bos().0, own.bos());
    for (token, piece) in (0..).zip(theirs.pieces()) {
        assert_eq!(piece.bytes, own.token_bytes(token).expect("a token"), "{}", piece.name);
    }
    assert!(differ.is_empty(), "{} of 1000 differ:\n{}", differ.len(), differ.join("\n"));
}
