//! The files of an exported folder that the text layer reads.

use std::fs;
use std::path::Path;

use upcycle_checkpoint::CheckpointError;
use upcycle_checkpoint::gguf::Gguf;
use upcycle_text::{ChatTemplate, Tokenizer};

use crate::export::ExportError;

const TOKENIZER: &str = "tokenizer.json";
const CONFIG: &str = "tokenizer_config.json";

/// What is carried over from a folder as it stands, beside the tokenizer.
const CARRIED: [&str; 4] =
    [CONFIG, "special_tokens_map.json", "generation_config.json", "chat_template.jinja"];

/// A file to be written.
#[derive(Debug)]
pub(crate) struct TextFile {
    pub(crate) name: &'static str,
    pub(crate) bytes: Vec<u8>,
}

/// Those that say what a GGUF file says.
pub(crate) fn of_gguf(gguf: &Gguf, vocab: usize) -> Result<Vec<TextFile>, ExportError> {
    let tokenizer = Tokenizer::from_gguf(gguf)?;
    check(&tokenizer, vocab)?;
    let template = ChatTemplate::from_gguf(gguf)?;
    let (tokens, config) = tokenizer.to_json(template.as_ref())?;
    let file = |name, text: String| TextFile { name, bytes: text.into_bytes() };
    Ok(vec![file(TOKENIZER, tokens), file(CONFIG, config)])
}

/// Those of a folder, once they have been found to be sound.
pub(crate) fn of_folder(folder: &Path, vocab: usize) -> Result<Vec<TextFile>, ExportError> {
    let tokenizer = Tokenizer::from_file(folder.join(TOKENIZER))?;
    check(&tokenizer, vocab)?;
    ChatTemplate::from_folder(folder, tokenizer.template_tokens())?;
    let mut files = Vec::new();
    for name in [TOKENIZER].into_iter().chain(CARRIED) {
        let path = folder.join(name);
        if path.exists() {
            let bytes = fs::read(&path).map_err(|source| CheckpointError::File { path, source })?;
            files.push(TextFile { name, bytes });
        }
    }
    Ok(files)
}

/// A model may have more tokens than its tokenizer, which pads sizes, but not fewer.
fn check(tokenizer: &Tokenizer, vocab: usize) -> Result<(), ExportError> {
    let tokens = tokenizer.vocab_size();
    if tokens > vocab { Err(ExportError::Vocabulary { tokenizer: tokens, model: vocab }) } else { Ok(()) }
}
