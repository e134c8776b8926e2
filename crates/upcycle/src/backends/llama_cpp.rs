//! llama.cpp: loading, its devices, and its own tokenizer.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use upcycle_core::Verifier;
use upcycle_llama_cpp::{LlamaVerifier, Model, Options, Vocabulary};
use upcycle_text::{Encode, ExternalToken, ExternalVocabulary, Specials, TextError, Tokenizer};

use crate::parts::{BoxError, ModelSource, OnProgress, Progress};
use crate::registry::ModelFit;

use super::graph_given::refuse_graph;

pub(super) fn load(
    options: &Options,
    model: ModelSource<'_>,
    progress: OnProgress<'_>,
) -> Result<Box<dyn Verifier>, BoxError> {
    refuse_graph(model)?;
    // The binding's callback outlives the call, so it cannot borrow this one.
    progress(Progress { done: 0, total: 1 });
    let verifier = LlamaVerifier::new(Model::load(model.path, options)?)?;
    progress(Progress { done: 1, total: 1 });
    Ok(Box::new(verifier))
}

pub(super) fn check(options: &Options, model: ModelSource<'_>) -> Result<ModelFit, BoxError> {
    refuse_graph(model)?;
    let (support, max_context) = Model::check(model.path, options)?;
    Ok(ModelFit { kind: support.kind(), max_context, kv_bytes: None })
}

/// llama.cpp's own tokenizer of a file, for kinds of vocabulary that `upcycle-text` does not build.
pub(crate) fn tokenizer(path: &Path) -> Result<Tokenizer, TextError> {
    let failed = |error: upcycle_llama_cpp::LoadError| {
        let causes = std::iter::successors(error.source(), |&cause| cause.source());
        let reason = causes.fold(error.to_string(), |reason, cause| format!("{reason}: {cause}"));
        TextError::Tokenizer { reason }
    };
    let vocabulary = Vocabulary::load(path).map_err(failed)?;
    let tokens = vocabulary.pieces();
    let (bos, add_bos) = vocabulary.bos();
    Tokenizer::external(ExternalVocabulary {
        kind: "llama.cpp".to_owned(),
        tokens: tokens
            .into_iter()
            .map(|piece| ExternalToken { name: piece.name, bytes: piece.bytes })
            .collect(),
        bos,
        add_bos,
        ends: vocabulary.ends(),
        encoder: Arc::new(LlamaCppEncoder(vocabulary)),
    })
}

struct LlamaCppEncoder(Vocabulary);

impl Encode for LlamaCppEncoder {
    fn encode(&self, text: &str, specials: Specials) -> Result<Vec<u32>, TextError> {
        let tokens = self.0.tokenize(text, specials == Specials::Parse);
        tokens.map_err(|error| TextError::Tokenizer { reason: error.to_string() })
    }
}

/// The devices that llama.cpp finds on this machine, or why it cannot run.
pub(super) fn devices() -> Result<Vec<String>, String> {
    upcycle_llama_cpp::devices().map_err(|error| error.to_string())
}
