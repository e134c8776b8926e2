//! Files that only llama.cpp understands, and files that it would end the process for.

use std::path::Path;

use upcycle_checkpoint::gguf::write::GgufWriter;
use upcycle_checkpoint::gguf::{GgmlType, Gguf, GgufError, StringArray};
use upcycle_llama_cpp::{LoadError, Options, TokenizeError, Vocabulary};
use upcycle_testkit::tiny::{Tiny, write};

use crate::support::{load, logits, options, refusal, verifier};

/// Writes a file with these bytes.
fn saved(bytes: &[u8]) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), bytes).expect("to write");
    file
}

/// Replaces the only occurrence of `from` by bytes of the same number.
fn patched(mut file: Vec<u8>, from: &[u8], to: &[u8]) -> Vec<u8> {
    let found: Vec<usize> = (0..file.len()).filter(|&at| file[at..].starts_with(from)).collect();
    assert_eq!((found.len(), from.len()), (1, to.len()));
    file[found[0]..][..to.len()].copy_from_slice(to);
    file
}

fn run(path: &Path, options: &Options) -> Vec<f32> {
    let logits = logits(&mut verifier(&load(path, options)), &[3, 5, 7]);
    assert!(logits.iter().all(|logit| logit.is_finite()));
    logits
}

#[test]
fn types_that_only_llama_cpp_computes() {
    for dtype in [GgmlType::Nvfp4, GgmlType::Q1_0, GgmlType::Q2_0] {
        let quantize = |values: &[f32], dtype: GgmlType| {
            vec![0; values.len() / dtype.block_size() as usize * dtype.block_bytes() as usize]
        };
        let tiny = Tiny { width: 128, ffn: dtype, quantize, ..Tiny::default() };
        run(write(&tiny.writer(None)).path(), &options(64));
    }
    // llama.cpp itself says which types it knows.
    let mut quarter = Tiny::default().writer(None).to_bytes().expect("sound");
    let name = b"blk.0.ffn_up.weight";
    let at = (0..quarter.len()).find(|&at| quarter[at..].starts_with(name)).expect("it is there");
    quarter[at + name.len() + 4 + 2 * 8] = 99;
    let error = refusal(saved(&quarter).path(), &options(64));
    assert!(matches!(&error, LoadError::Model { reason, .. } if reason.contains("type 99")), "{error:?}");
}

#[test]
fn metadata_that_llama_cpp_need_not_understand() {
    let sound = |writer: GgufWriter| writer.to_bytes().expect("sound");
    let expected = run(write(&Tiny::default().writer(None)).path(), &options(64));
    let text = sound(Tiny::default().writer(None).metadata("general.description", "cafe?"));
    let flag = sound(Tiny::default().writer(None).metadata("general.odd-flag", true));
    let key = b"general.odd-flag\x07\0\0\0\x01";
    for (file, fault) in [
        (patched(text, b"cafe?", b"caf\xe9?"), "not valid UTF-8"),
        (patched(flag.clone(), key, b"general.odd-flag\x07\0\0\0\x02"), "found 2"),
        (patched(flag, b"general.odd-flag", b"general.odd\xffflag"), "not valid UTF-8"),
    ] {
        let file = saved(&file);
        assert_eq!(run(file.path(), &options(64)), expected);
        let strict = Gguf::open(file.path()).expect_err("our reader refuses it");
        let (_, faults) = Gguf::open_lenient(file.path()).expect("it passes it on");
        assert!(strict.to_string().contains(fault), "{strict}");
        assert_eq!(faults.iter().map(ToString::to_string).collect::<Vec<_>>(), [strict.to_string()]);
    }
}

/// llama.cpp maps weights into memory only where they start at multiples of 32, and aborts elsewhere.
#[test]
fn any_alignment() {
    let expected = run(write(&Tiny::default().writer(None)).path(), &options(64));
    for alignment in [1, 2, 4, 8, 16, 64, 4096_u32] {
        // An odd number of bytes before the tensors, so that only the alignment moves them.
        let name = "x".repeat(31);
        let writer = Tiny::default()
            .writer(None)
            .metadata("general.alignment", alignment)
            .metadata("general.name", name);
        assert_eq!(run(write(&writer).path(), &options(64)), expected, "{alignment}");
    }
    for found in [0_u32, 3, 24, u32::MAX] {
        let file =
            Tiny::default().writer(None).metadata("general.alignment", 32_u32).to_bytes().expect("sound");
        let entry = |value: u32| [&b"general.alignment\x04\0\0\0"[..], &value.to_le_bytes()].concat();
        let file = saved(&patched(file, &entry(32), &entry(found)));
        let error = refusal(file.path(), &options(64));
        let is_alignment = |source: &GgufError| matches!(source, GgufError::InvalidAlignment { .. });
        assert!(matches!(&error, LoadError::Gguf { source, .. } if is_alignment(source)), "{error:?}");
    }
}

/// A tiny model with these tokens.
fn with_tokens(kind: &str, tokens: &[&str]) -> GgufWriter {
    let tiny = Tiny { vocab: tokens.len(), ..Tiny::default() };
    let vocabulary = GgufWriter::new()
        .metadata("tokenizer.ggml.model", kind)
        .metadata("tokenizer.ggml.pre", "default")
        .metadata("tokenizer.ggml.tokens", tokens.iter().collect::<StringArray>())
        .metadata("tokenizer.ggml.scores", vec![0.0_f32; tokens.len()])
        .metadata("tokenizer.ggml.merges", StringArray::new());
    tiny.with_vocabulary(vocabulary, None)
}

#[test]
fn a_token_twice_is_an_error_in_every_kind_of_vocabulary() {
    // llama.cpp reads up to a zero byte, and names an empty token.
    let twice: [&[&str]; 4] = [
        &["a", "\n", "b", "a"],
        &["\n", "x\0y", "z", "x"],
        &["[EMPTY_2]", "\n", "", "b"],
        &["\n", "b", "b", "b"],
    ];
    for kind in ["gpt2", "llama", "gemma4", "t5", "bert", "rwkv", "plamo2", "hybriddna", "whitespace", "test"]
    {
        for tokens in twice {
            let file = write(&with_tokens(kind, tokens));
            let (run, vocabulary) = (refusal(file.path(), &options(64)), Vocabulary::load(file.path()));
            for error in [run, vocabulary.expect_err("it has a token twice")] {
                let LoadError::DuplicateToken { token, first, second, .. } = &error else {
                    panic!("{error:?}")
                };
                assert!(first < second && !token.is_empty(), "{error}");
            }
        }
    }
}

/// llama.cpp throws an exception for such a text, which ends the process.
#[test]
fn a_text_that_a_sentencepiece_vocabulary_cannot_hold() {
    let file = write(&with_tokens("llama", &["<unk>", "<s>", "</s>", "\u{2581}", "a", "<0x0A>", "é", "b"]));
    let vocabulary = Vocabulary::load(file.path()).expect("a vocabulary");
    assert!(vocabulary.tokenize("a é\nb", false).is_ok_and(|tokens| tokens.contains(&6)));
    for (text, character) in [("abc", 'c'), ("a\u{0}", '\0'), ("aë", 'ë'), ("😀", '😀')] {
        assert_eq!(vocabulary.tokenize(text, true), Err(TokenizeError::NoToken { character }));
    }
    let spaceless = write(&with_tokens("llama", &["<unk>", "<s>", "</s>", "a"]));
    let vocabulary = Vocabulary::load(spaceless.path()).expect("a vocabulary");
    assert_eq!(vocabulary.tokenize("a", false), Err(TokenizeError::NoToken { character: '\u{2581}' }));
    assert_eq!(vocabulary.tokenize("", false), Ok(Vec::new()));
}

/// llama.cpp's tokenizer takes all memory for a text with such a byte.
#[test]
fn an_rwkv_vocabulary_without_a_byte() {
    for (tokens, byte) in [(["\\n", "ab", "b", "c"], b'a'), (["\\x0aa", "a", "b", "c"], b'\n')] {
        let file = write(&with_tokens("rwkv", &tokens));
        let error = Vocabulary::load(file.path()).expect_err("a byte is missing");
        assert!(matches!(error, LoadError::MissingByte { byte: found, .. } if found == byte), "{error:?}");
        assert!(matches!(refusal(file.path(), &options(64)), LoadError::MissingByte { .. }));
    }
    let sound = write(&with_tokens("rwkv", &["\\n", "a", "ab", "c"]));
    let vocabulary = Vocabulary::load(sound.path()).expect("a vocabulary");
    assert_eq!(vocabulary.tokenize("abca\n", false), Ok(vec![2, 3, 1, 0]));
}

/// Dropping a second handle would shut llama.cpp down for everyone.
#[test]
fn llama_cpp_stays_initialized() {
    upcycle_llama_cpp::devices().expect("the CPU");
    let second = llama_cpp_2::llama_backend::LlamaBackend::init();
    assert_eq!(second.err(), Some(llama_cpp_2::LlamaCppError::BackendAlreadyInitialized));
}
