//! The tokenizers of the tests.

use std::io::Cursor;
use std::path::PathBuf;
use std::sync::LazyLock;

use upcycle_checkpoint::gguf::write::GgufWriter;
use upcycle_checkpoint::gguf::{Gguf, StringArray};
use upcycle_text::{TextError, Tokenizer};

/// The header of the real model.
pub(crate) static GGUF: LazyLock<Gguf> = LazyLock::new(|| {
    let path = std::env::var_os("UPCYCLE_TEST_MODEL").map_or_else(
        || {
            let name = "../../.models/SmolLM2-135M-Instruct.Q4_1.gguf";
            PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)
        },
        PathBuf::from,
    );
    Gguf::open(&path).unwrap_or_else(|error| {
        panic!("{error}\nThis test needs the real model: run scripts/get-model.sh, or set UPCYCLE_TEST_MODEL")
    })
});

/// The real model's tokenizer.
pub(crate) static TOKENIZER: LazyLock<Tokenizer> =
    LazyLock::new(|| Tokenizer::from_gguf(&GGUF).expect("the real model's tokenizer is sound"));

/// A small vocabulary that tests can change before it is built.
pub(crate) struct Tiny {
    pub(crate) tokens: Vec<(String, i32)>,
    pub(crate) merges: Vec<&'static str>,
    pub(crate) model: &'static str,
    pub(crate) pre: &'static str,
    pub(crate) more: Vec<(&'static str, upcycle_checkpoint::gguf::Value)>,
}

impl Default for Tiny {
    /// All printable ASCII characters, a space, every byte of `é` and of `🦀`, a few merges and three special tokens.
    fn default() -> Self {
        let plain = ('!'..='~').chain("ĠÃ©ðŁ¦Ģ".chars()).map(|character| (character.to_string(), 1));
        let merged = ["he", "hel", "lo", "Ġhe"].map(|token| (token.to_owned(), 1));
        let added = [("<|im_end|>", 3), ("<think>", 4), ("<unused>", 5)];
        let tokens = plain.chain(merged).chain(added.map(|(token, kind)| (token.to_owned(), kind))).collect();
        let merges = vec!["h e", "he l", "l o", "Ġ he"];
        Self { tokens, merges, model: "gpt2", pre: "gpt-2", more: Vec::new() }
    }
}

impl Tiny {
    pub(crate) fn gguf(self) -> Gguf {
        let mut writer = GgufWriter::new()
            .metadata("tokenizer.ggml.model", self.model)
            .metadata("tokenizer.ggml.pre", self.pre)
            .metadata(
                "tokenizer.ggml.tokens",
                self.tokens.iter().map(|(token, _)| token).collect::<StringArray>(),
            );
        if !self.more.iter().any(|(key, _)| *key == "tokenizer.ggml.merges") {
            writer = writer.metadata("tokenizer.ggml.merges", self.merges.iter().collect::<StringArray>());
        }
        if !self.more.iter().any(|(key, _)| *key == "tokenizer.ggml.token_type") {
            let types: Vec<i32> = self.tokens.iter().map(|&(_, kind)| kind).collect();
            writer = writer.metadata("tokenizer.ggml.token_type", types);
        }
        for (key, value) in self.more {
            writer = writer.metadata(key, value);
        }
        Gguf::read(&mut Cursor::new(writer.to_bytes().unwrap())).unwrap()
    }

    pub(crate) fn build(self) -> Result<Tokenizer, TextError> {
        Tokenizer::from_gguf(&self.gguf())
    }
}
