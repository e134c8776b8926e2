//! The tokenizer and chat template of an exported folder.

use std::fs;
use std::path::Path;

use upcycle_checkpoint::CheckpointError;
use upcycle_checkpoint::gguf::Gguf;
use upcycle_text::{ChatTemplate, Tokenizer};

use super::error::ExportError;

const TOKENIZER: &str = "tokenizer.json";
const CONFIG: &str = "tokenizer_config.json";

/// The files besides the tokenizer that are copied from a source folder.
const COPIED: [&str; 5] = [
    CONFIG,
    "special_tokens_map.json",
    "generation_config.json",
    "chat_template.jinja",
    "chat_template.json",
];

/// A file to write.
#[derive(Debug)]
pub(crate) struct TextFile {
    pub(crate) name: &'static str,
    pub(crate) bytes: Vec<u8>,
}

/// The files for the tokenizer and template of a GGUF file.
pub(crate) fn from_gguf(gguf: &Gguf, vocab: usize) -> Result<Vec<TextFile>, ExportError> {
    let tokenizer = Tokenizer::from_gguf(gguf)?;
    check(&tokenizer, vocab)?;
    // A template that does not compile here is exported as well: another program may render it.
    let template = ChatTemplate::source_in_gguf(gguf)?;
    let (tokens, config) = tokenizer.to_json(template.as_deref())?;
    let file = |name, text: String| TextFile { name, bytes: text.into_bytes() };
    Ok(vec![file(TOKENIZER, tokens), file(CONFIG, config)])
}

/// The files of a folder, copied after a check that they load.
pub(crate) fn from_folder(folder: &Path, vocab: usize) -> Result<Vec<TextFile>, ExportError> {
    let tokenizer = Tokenizer::from_file(folder.join(TOKENIZER))?;
    check(&tokenizer, vocab)?;
    let mut files = Vec::new();
    for name in [TOKENIZER].into_iter().chain(COPIED) {
        let path = folder.join(name);
        if path.exists() {
            let bytes = fs::read(&path).map_err(|source| CheckpointError::File { path, source })?;
            files.push(TextFile { name, bytes });
        }
    }
    Ok(files)
}

/// Checks that the model has at least as many tokens as the tokenizer. It may have more, for padding.
fn check(tokenizer: &Tokenizer, vocab: usize) -> Result<(), ExportError> {
    let tokens = tokenizer.vocab_size();
    if tokens > vocab { Err(ExportError::Vocabulary { tokenizer: tokens, model: vocab }) } else { Ok(()) }
}
