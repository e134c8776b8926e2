use std::fs;

use serde_json::{Value, json};
use tempfile::TempDir;
use upcycle_text::{Specials, TextError, Tokenizer};

use crate::model::{GGUF, TOKENIZER};

/// The real vocabulary as its authors' `tokenizer.json` has it.
fn real() -> Value {
    let tokens = GGUF.strings("tokenizer.ggml.tokens").unwrap();
    let vocab: serde_json::Map<String, Value> =
        tokens.iter().zip(0..).map(|(token, id)| (token.to_owned(), Value::from(id))).collect();
    let merges: Vec<&str> = GGUF.strings("tokenizer.ggml.merges").unwrap().iter().collect();
    let added: Vec<Value> = tokens
        .iter()
        .zip(0..17)
        .map(|(token, id)| {
            json!({"id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true})
        })
        .collect();
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": null,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Digits", "individual_digits": true},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}
        ]},
        "post_processor": null,
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocab, "merges": merges}
    })
}

/// A vocabulary of four tokens.
fn small() -> Value {
    let mut json = real();
    json["added_tokens"] = json!([]);
    json["model"]["vocab"] = json!({"a": 0, "b": 1, "ab": 2, "<e>": 4});
    json["model"]["merges"] = json!([["a", "b"]]);
    json
}

fn load(json: &Value) -> (TempDir, Result<Tokenizer, TextError>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    fs::write(&path, json.to_string()).unwrap();
    let tokenizer = Tokenizer::from_file(&path);
    (folder, tokenizer)
}

#[test]
fn file_and_gguf_are_the_same_tokenizer() {
    let (folder, tokenizer) = load(&real());
    let tokenizer = tokenizer.unwrap();
    assert_eq!(tokenizer.fingerprint(), TOKENIZER.fingerprint());
    assert_eq!(tokenizer.eos_ids(), [0, 2, 4]);
    assert_eq!((tokenizer.bos(), tokenizer.add_bos()), (None, false));
    let text = "It's 2024:  \t\n\nna\u{ef}ve Café's DON'T 1234567 中文 e\u{301} {\"a\": [1, -2.5]} 🦀\r\n  end \n\n\n x   ";
    for (text, specials) in [(text, Specials::Plain), ("<|im_start|>user\n  Hi<|im_end|> ", Specials::Parse)]
    {
        let tokens = tokenizer.encode(text, specials).unwrap();
        assert_eq!(tokens, TOKENIZER.encode(text, specials).unwrap());
        assert_eq!(tokenizer.decode(&tokens).unwrap(), TOKENIZER.decode(&tokens).unwrap());
    }

    let config =
        json!({"bos_token": "<|im_start|>", "eos_token": {"content": "<file_sep>"}, "add_bos_token": true});
    fs::write(folder.path().join("tokenizer_config.json"), config.to_string()).unwrap();
    let tokenizer = Tokenizer::from_file(folder.path().join("tokenizer.json")).unwrap();
    assert_eq!((tokenizer.bos(), tokenizer.add_bos()), (Some(1), true));
    assert_eq!(tokenizer.eos_ids(), [0, 2, 4, 5]);
    assert_eq!(tokenizer.template_tokens().eos.as_deref(), Some("<file_sep>"));
}

#[test]
fn generation_configs_add_end_tokens_and_the_bos_token() {
    let (folder, tokenizer) = load(&real());
    assert_eq!(tokenizer.unwrap().eos_ids(), [0, 2, 4]);
    let reload = |name: &str, text: &str| {
        fs::write(folder.path().join(name), text).unwrap();
        Tokenizer::from_file(folder.path().join("tokenizer.json"))
    };
    let tokenizer = reload("generation_config.json", r#"{"bos_token_id": 1, "eos_token_id": 5}"#).unwrap();
    assert_eq!((tokenizer.bos(), tokenizer.add_bos()), (Some(1), false));
    assert_eq!(tokenizer.eos_ids(), [0, 2, 4, 5]);
    let model = r#"{"model": {"bos_token_id": 4, "eos_token_id": [7, 2, 6]}}"#;
    let tokenizer = reload("genai_config.json", model).unwrap();
    assert_eq!((tokenizer.bos(), tokenizer.eos_ids()), (Some(1), &[0, 2, 4, 5, 6, 7][..]));
    // `tokenizer_config.json` comes first: it names the template's tokens.
    let tokenizer = reload("tokenizer_config.json", r#"{"eos_token": "<|im_end|>"}"#).unwrap();
    assert_eq!(tokenizer.template_tokens().eos.as_deref(), Some("<|im_end|>"));
    assert_eq!(tokenizer.eos_ids(), [0, 2, 4, 5, 6, 7]);
    reload("genai_config.json", r#"{"model": {"eos_token_id": null}}"#).unwrap();
    reload("genai_config.json", "[]").unwrap();

    for beyond in [r#"{"eos_token_id": 49152}"#, r#"{"eos_token_id": [-1, 7], "bos_token_id": 4294967296}"#] {
        let tokenizer = reload("generation_config.json", beyond).unwrap();
        assert!(tokenizer.eos_ids().starts_with(&[0, 2, 4]), "{beyond}");
    }
    for unsound in ["{", r#"{"eos_token_id": [1.5]}"#, r#"{"eos_token_id": "a"}"#] {
        let error = reload("generation_config.json", unsound).unwrap_err();
        assert!(
            matches!(&error, TextError::Json { path, .. } if path.ends_with("generation_config.json")),
            "{error}"
        );
    }
}

#[test]
fn the_post_processor_gives_the_bos_token() {
    let mut json = small();
    json["added_tokens"] = json!([{"id": 4, "content": "<e>", "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": false, "special": true}]);
    json["post_processor"] = json!({"type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<e>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<e>": {"id": "<e>", "ids": [4], "tokens": ["<e>"]}}});
    let (_folder, tokenizer) = load(&json);
    let tokenizer = tokenizer.unwrap();
    assert_eq!((tokenizer.bos(), tokenizer.add_bos()), (Some(4), true));
    // `encode` leaves BOS to the caller. Id 3 has no token.
    assert_eq!(tokenizer.encode("abb", Specials::Plain).unwrap(), [2, 1]);
    assert_eq!((tokenizer.vocab_size(), tokenizer.decode(&[3, 2, 4]).unwrap().as_str()), (5, "ab"));
}

#[test]
fn invalid_files_are_typed_errors() {
    let error = |change: fn(&mut Value)| {
        let mut json = small();
        change(&mut json);
        load(&json).1.unwrap_err()
    };
    load(&small()).1.unwrap();
    let unigram = error(|json| json["model"]["type"] = "Unigram".into());
    assert!(matches!(unigram, TextError::UnsupportedKind { found, .. } if found == "Unigram"));
    let metaspace = error(|json| json["decoder"] = json!({"type": "Fuse"}));
    assert!(matches!(metaspace, TextError::UnsupportedKind { .. }));
    let prefix = error(|json| json["model"]["continuing_subword_prefix"] = "####".into());
    assert!(matches!(prefix, TextError::UnsupportedKind { .. }));
    // The library would write past its buffer.
    let merge = error(|json| json["model"]["merges"] = json!(["a b", "<e> <e>"]));
    assert!(matches!(merge, TextError::InvalidMerge { index: 1, .. }));
    assert!(matches!(
        error(|json| json["model"]["merges"] = json!([7])),
        TextError::InvalidMerge { index: 0, .. }
    ));
    let huge = error(|json| json["model"]["vocab"]["<e>"] = u32::MAX.into());
    assert!(matches!(huge, TextError::VocabularySize { .. }), "{huge}");
    assert!(matches!(error(|json| json["model"]["vocab"]["<e>"] = 2.into()), TextError::Json { .. }));
    assert!(matches!(error(|json| json["model"]["dropout"] = 0.5.into()), TextError::Json { .. }));
    let step = error(|json| json["pre_tokenizer"] = json!({"type": "FixedLength", "length": 0}));
    assert!(matches!(step, TextError::Json { reason, .. } if reason.contains("FixedLength")));
    let shared = error(|json| {
        // The library assigns the next id, 4, which `<e>` has already.
        json["added_tokens"] = json!([{"id": 5, "content": "<new>", "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false, "special": true}]);
    });
    assert!(matches!(shared, TextError::Json { reason, .. } if reason.contains("share the id 4")));
    assert!(matches!(error(|json| *json = json!([1, 2])), TextError::Json { .. }));

    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(Tokenizer::from_file(folder.path().join("none.json")), Err(TextError::Read { .. })));
    let path = folder.path().join("broken.json");
    fs::write(&path, "{").unwrap();
    assert!(matches!(Tokenizer::from_file(path), Err(TextError::Json { .. })));
}

/// The tokenizers library parses recursively and exhausts its stack before serde_json's limit of 128 levels.
#[test]
fn deeply_nested_files_are_refused() {
    for part in ["normalizer", "pre_tokenizer", "post_processor", "decoder"] {
        for levels in [20, 60, 110] {
            let mut json = small();
            let mut inner = json[part].clone();
            for _ in 0..levels {
                let list = if part == "pre_tokenizer" { "pretokenizers" } else { "normalizers" };
                inner = json!({"type": "Sequence", list: [inner], "processors": [], "decoders": []});
            }
            json[part] = inner;
            let refused = load(&json).1;
            assert!(matches!(refused, Err(TextError::Json { .. })), "{part}, {levels}: {refused:?}");
        }
    }
}
