//! Encodes texts with the tokenizer of a GGUF file or a `tokenizer.json`:
//!
//! ```sh
//! echo '"Hello, world"' | cargo run -p upcycle-text --example encode -- model.gguf
//! ```
//!
//! Each line of standard input is a JSON string. Prints its token ids as a JSON list, without a BOS token.

use std::error::Error;
use std::io::{BufRead, stdin};
use std::path::Path;

use upcycle_checkpoint::gguf::Gguf;
use upcycle_text::{Specials, Tokenizer};

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args_os().nth(1).ok_or("expected a vocabulary: encode FILE < TEXTS")?;
    let tokenizer = load(path.as_ref())?;
    for line in stdin().lock().lines() {
        let text: String = serde_json::from_str(&line?)?;
        println!("{:?}", tokenizer.encode(&text, Specials::Plain)?);
    }
    Ok(())
}

fn load(path: &Path) -> Result<Tokenizer, Box<dyn Error>> {
    Ok(if path.extension().is_some_and(|extension| extension == "gguf") {
        Tokenizer::from_gguf(&Gguf::open(path)?)?
    } else {
        Tokenizer::from_file(path)?
    })
}

#[test]
fn a_vocabulary_is_read() {
    let json = serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "post_processor": null, "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]}
    });
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tokenizer.json");
    std::fs::write(&file, json.to_string()).unwrap();
    assert_eq!(load(&file).unwrap().encode("abaab", Specials::Plain).unwrap(), [2, 0, 2]);
    std::fs::rename(&file, folder.path().join("model.gguf")).unwrap();
    assert!(load(&folder.path().join("model.gguf")).is_err());
}
