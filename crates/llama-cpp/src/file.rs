//! Opening a model's file or files: by our reader first, then by llama.cpp.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;
use upcycle_checkpoint::gguf::{Gguf, GgufError, SplitFiles};

use crate::error::LoadError;
use crate::native::{Library, library, listen};
use crate::trial::Trial;

/// llama.cpp asserts that the weights that it maps into memory start at a multiple of this, in bytes.
const MAPPED_ALIGNMENT: u64 = 32;

/// Reads the headers of a model, given its file or its first part. Passes on what our reader need not understand.
///
/// # Errors
/// [`LoadError::MissingPart`], [`LoadError::Gguf`], [`LoadError::DuplicateToken`], [`LoadError::MissingByte`].
pub(crate) fn open(path: &Path) -> Result<SplitFiles, LoadError> {
    let parts = SplitFiles::open_lenient(path).map_err(|error| match error {
        GgufError::Part { path: part, count, source } if matches!(*source, GgufError::Open { .. }) => {
            LoadError::MissingPart { path: path.to_owned(), part, count, reason: reason(path) }
        }
        source => LoadError::Gguf { path: path.to_owned(), source },
    })?;
    check_tokens(path, parts.first())?;
    check_rwkv(path, parts.first())?;
    Ok(parts)
}

/// llama.cpp's reason to refuse a model with a missing part.
fn reason(path: &Path) -> String {
    let params = LlamaModelParams::default().with_vocab_only(true);
    let loaded = library().and_then(|library| load(library, path, &params, None));
    match loaded {
        Err(LoadError::Model { reason, .. }) => reason,
        Err(error) => error.to_string(),
        Ok(_) => "llama.cpp found the part a moment later".to_owned(),
    }
}

/// Refuses a vocabulary with the same token twice: llama.cpp ends the process for it.
fn check_tokens(path: &Path, gguf: &Gguf) -> Result<(), LoadError> {
    let Ok(Some(tokens)) = gguf.get_strings("tokenizer.ggml.tokens") else { return Ok(()) };
    let mut ids = HashMap::with_capacity(tokens.len());
    for (second, token) in (0_usize..).zip(tokens.iter()) {
        // The reader may have put U+FFFD for bytes that differ.
        if token.contains('\u{fffd}') {
            continue;
        }
        // llama.cpp reads a token up to its first zero byte, and invents a name for an empty one.
        let token = token.split('\0').next().unwrap_or_default();
        let name = match token {
            "" => Cow::Owned(format!("[EMPTY_{second}]")),
            token => Cow::Borrowed(token),
        };
        if let Some(first) = ids.insert(name.clone(), second) {
            let (path, token) = (path.to_owned(), name.into_owned());
            return Err(LoadError::DuplicateToken { path, token, first, second });
        }
    }
    Ok(())
}

/// Refuses an RWKV vocabulary with a token whose first byte is no token: for a text with that byte, llama.cpp's tokenizer never ends
/// and takes all memory. It splits a text while it loads the model.
fn check_rwkv(path: &Path, gguf: &Gguf) -> Result<(), LoadError> {
    if !matches!(gguf.get_string("tokenizer.ggml.model"), Ok(Some("rwkv"))) {
        return Ok(());
    }
    let Ok(Some(tokens)) = gguf.get_strings("tokenizer.ggml.tokens") else { return Ok(()) };
    let (mut first, mut single) = ([false; 256], [false; 256]);
    for token in tokens.iter() {
        let mut bytes = unescaped(token);
        if let Some(byte) = bytes.next() {
            first[usize::from(byte)] = true;
            single[usize::from(byte)] |= bytes.next().is_none();
        }
    }
    match (0..=u8::MAX).find(|&byte| first[usize::from(byte)] && !single[usize::from(byte)]) {
        Some(byte) => Err(LoadError::MissingByte { path: path.to_owned(), byte }),
        None => Ok(()),
    }
}

/// The bytes of a token of an RWKV vocabulary, which writes some as `\\n` or `\\xff`.
fn unescaped(token: &str) -> impl Iterator<Item = u8> + '_ {
    let mut bytes = token.bytes();
    std::iter::from_fn(move || match bytes.next()? {
        b'\\' => match bytes.next()? {
            b't' => Some(b'\t'),
            b'n' => Some(b'\n'),
            b'r' => Some(b'\r'),
            b'x' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                Some((digit()? * 16 + digit()?) as u8)
            }
            other => Some(other),
        },
        byte => Some(byte),
    })
}

/// Whether llama.cpp can use the weights where they lie in the files.
pub(crate) fn is_mappable(parts: &SplitFiles) -> bool {
    parts.tensors().all(|tensor| tensor.offset.is_multiple_of(MAPPED_ALIGNMENT))
}

/// Loads a file that [`open`] has accepted, after the trial, if one is given and wanted.
///
/// # Errors
/// [`LoadError::Path`], [`LoadError::Model`], [`LoadError::Trial`].
pub(crate) fn load(
    library: &Library,
    path: &Path,
    params: &LlamaModelParams,
    trial: Option<&Trial<'_>>,
) -> Result<LlamaModel, LoadError> {
    if path.to_str().is_none_or(|path| path.contains('\0')) {
        return Err(LoadError::Path { path: path.to_owned() });
    }
    if let Some(trial) = trial {
        trial.run()?;
    }
    let (loaded, reason) = listen(|| LlamaModel::load_from_file(&library.backend, path, params));
    loaded.map_err(|_| LoadError::Model { path: path.to_owned(), reason })
}
