//! One configuration of a run: an engine with one model, and the prompts as its tokens.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use upcycle::{Config, Engine, Layers, Progress, PromptStyle, Registry, Text, model_folder};
use upcycle_checkpoint::gguf::Gguf;
use upcycle_core::{CostCurve, Limits, TokenId, Verifier};

use super::BenchError;
use crate::machine;
use crate::plan::SetupPlan;
use crate::results::Skipped;

/// A prompt to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Its id.
    pub question: String,
    /// Its group.
    pub group: String,
    /// Its text.
    pub prompt: String,
}

/// A configuration, its model loaded.
pub(super) struct Setup {
    pub(super) name: String,
    pub(super) layers: Layers,
    pub(super) limits: Limits,
    pub(super) verifier: Option<Box<dyn Verifier>>,
    pub(super) text: Text,
    /// The tokens of each prompt.
    pub(super) prompts: Vec<Vec<TokenId>>,
    pub(super) tolerance: f32,
    pub(super) engine: String,
    pub(super) kernels: String,
    pub(super) threads: Option<usize>,
    pub(super) model: String,
    pub(super) model_sha256: String,
    /// What the process grew by when the model was loaded.
    pub(super) memory: u64,
    /// What its passes cost, as measured last: what automatic budgets start from.
    pub(super) curve: Option<CostCurve>,
    /// What ranking every row of a prompt adds to reading it, as timed last.
    pub(super) prompt_rows: Option<f64>,
}

impl Setup {
    pub(super) fn load(
        plan: &SetupPlan,
        registry: &Registry,
        asked: &[Asked],
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Self, BenchError> {
        let layers = plan.layers()?;
        let config: Config = layers.load(&registry.names())?;
        let before = machine::resident_memory().unwrap_or(0);
        let Engine { text, verifier, backend, path, .. } = Engine::load(&config, registry, progress)?;
        let memory = machine::resident_memory().unwrap_or(0).saturating_sub(before);
        Ok(Self {
            name: plan.name.clone(),
            prompts: encode(&text, asked)?,
            layers,
            limits: verifier.limits().clone(),
            tolerance: verifier.row_tolerance(),
            engine: backend,
            kernels: verifier.engine(),
            threads: verifier.threads(),
            verifier: Some(verifier),
            text,
            model: crate::plan::file_name(&path),
            model_sha256: sha256(&path)?,
            memory,
            curve: None,
            prompt_rows: None,
        })
    }
}

/// The text layer of a model that another program runs, and the prompts as its tokens.
pub(super) fn peer_prompts(
    model: &Path,
    asked: &[Asked],
) -> Result<(Vec<Vec<TokenId>>, Vec<TokenId>), BenchError> {
    let gguf = Gguf::open(model).map_err(|source| BenchError::Model { path: model.to_owned(), source })?;
    // Tokenizer and template are those of the file, as the peer has them.
    let text = Text::load(&Layers::new().load(&["cpu"])?, model, Some(&gguf))?;
    let tokens = encode(&text, asked)?;
    Ok((tokens, text.tokenizer.eos_ids().to_vec()))
}

fn encode(text: &Text, asked: &[Asked]) -> Result<Vec<Vec<TokenId>>, BenchError> {
    let style = if text.template.is_some() { PromptStyle::Chat } else { PromptStyle::Raw };
    let encode = |asked: &Asked| {
        text.encode(&asked.prompt, style)
            .map_err(|source| BenchError::Prompt { question: asked.question.clone(), source })
    };
    asked.iter().map(encode).collect()
}

/// Leaves out what does not fit `context` tokens by any of `lengths`, the tokens of each prompt by each setup.
pub(super) fn fitting(asked: &[Asked], lengths: &[Vec<usize>], context: usize) -> (Vec<usize>, Vec<Skipped>) {
    let (mut kept, mut skipped) = (Vec::new(), Vec::new());
    for (index, asked) in asked.iter().enumerate() {
        let longest = lengths.iter().filter_map(|lengths| lengths.get(index)).max().copied().unwrap_or(0);
        // One more token has to fit, or there is nothing to measure.
        if longest > 0 && longest < context {
            kept.push(index);
            continue;
        }
        let reason = if longest == 0 {
            "the prompt has no tokens".to_owned()
        } else {
            format!("the prompt has {longest} tokens and the context holds {context}")
        };
        skipped.push(Skipped { question: asked.question.clone(), group: asked.group.clone(), reason });
    }
    (kept, skipped)
}

/// SHA-256 of a model, in hex: of its file, or, if it is a folder, of the files there one after the other, by
/// name.
///
/// # Errors
/// [`BenchError::Io`].
pub fn sha256(path: &Path) -> Result<String, BenchError> {
    let hash = || -> io::Result<String> {
        let files = match model_folder(path) {
            Some(folder) => files_of(folder)?,
            None => vec![path.to_owned()],
        };
        let (mut hash, mut chunk) = (Sha256::new(), vec![0; 1 << 20]);
        for path in files {
            let mut file = File::open(path)?;
            loop {
                match file.read(&mut chunk)? {
                    0 => break,
                    read => hash.update(&chunk[..read]),
                }
            }
        }
        Ok(hex(&hash.finalize()))
    };
    hash().map_err(|source| BenchError::Io { doing: "read", path: path.to_owned(), source })
}

/// The files in a folder, by name; not those in folders below.
fn files_of(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder)?.map(|entry| Ok(entry?.path()));
    let mut files = entries.collect::<io::Result<Vec<_>>>()?;
    files.retain(|path| path.is_file());
    files.sort();
    Ok(files)
}

/// Bytes as hex digits.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What tells answers apart in a record: the first 16 hex digits of the SHA-256 of their ids.
pub(super) fn digest(tokens: &[TokenId]) -> String {
    let bytes: Vec<u8> = tokens.iter().flat_map(|token| token.to_le_bytes()).collect();
    hex(&Sha256::digest(bytes)[..8])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_that_does_not_fit_is_skipped_and_said() {
        let asked: Vec<Asked> = (0..4)
            .map(|id| Asked { question: id.to_string(), group: "g".into(), prompt: String::new() })
            .collect();
        let lengths = [vec![3, 9, 0, 10], vec![4, 8, 0, 2]];
        let (kept, skipped) = fitting(&asked, &lengths, 10);
        assert_eq!(kept, [0, 1]);
        let reasons: Vec<&str> = skipped.iter().map(|skipped| skipped.reason.as_str()).collect();
        assert_eq!(
            reasons,
            ["the prompt has no tokens", "the prompt has 10 tokens and the context holds 10"]
        );
    }

    #[test]
    fn the_hash_of_a_graph_covers_what_lies_beside_it() -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let place = |name: &str| folder.path().join(name);
        for (name, text) in [("model.onnx", "b"), ("a.json", "a"), ("model.onnx.data", "c")] {
            fs::write(place(name), text)?;
        }
        fs::create_dir(place("below"))?;
        let whole = hex(&Sha256::digest("abc"));
        assert_eq!(sha256(folder.path())?, whole);
        assert_eq!(sha256(&place("model.onnx"))?, whole);
        assert_eq!(sha256(&place("a.json"))?, hex(&Sha256::digest("a")));
        assert!(sha256(&place("gone")).is_err());
        Ok(())
    }

    #[test]
    fn answers_that_differ_have_different_digests() {
        assert_eq!(digest(&[1, 2]), digest(&[1, 2]));
        assert_ne!(digest(&[1, 2]), digest(&[2, 1]));
        assert_eq!(digest(&[]).len(), 16);
    }
}
