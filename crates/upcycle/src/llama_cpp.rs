//! The llama.cpp backend as the registry builds it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use upcycle_llama_cpp::{LlamaVerifier, Lora, Model, Options, Vocabulary};
use upcycle_text::{Encode, ExternalToken, ExternalVocabulary, Specials, TextError, Tokenizer};

use crate::{
    Built, CacheType, FlashAttention, LlamaCppChoice, OnProgress, Progress, RopeScaling, Source, SplitMode,
};

/// A graph where a GGUF file is wanted.
#[derive(Debug, thiserror::Error)]
#[error(
    "{path} is a graph for ONNX Runtime, and llama.cpp reads GGUF files; set backend.name = \"ort\", or name the file that \
     the graph was exported from",
    path = path.display()
)]
struct GraphGiven {
    path: PathBuf,
}

pub(crate) fn build(source: Source<'_>, progress: OnProgress<'_>) -> Built {
    if source.gguf.is_none() {
        return Err(GraphGiven { path: source.path.to_owned() }.into());
    }
    // The binding's callback outlives the call, and so cannot lend this one.
    progress(Progress { done: 0, total: 1 });
    let model = Model::load(source.path, &options(&source.config.backend().llama_cpp))?;
    let verifier = LlamaVerifier::new(model)?;
    progress(Progress { done: 1, total: 1 });
    Ok(Box::new(verifier))
}

/// llama.cpp's own tokenizer of a file, for kinds of vocabulary that the text layer does not build.
pub(crate) fn tokenizer(path: &Path) -> Result<Tokenizer, TextError> {
    let failed = |error: upcycle_llama_cpp::LoadError| TextError::Tokenizer { reason: error.to_string() };
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
        tokens.ok_or_else(|| TextError::Tokenizer {
            reason: format!("a text of {} bytes is too long", text.len()),
        })
    }
}

/// The devices that llama.cpp finds on this machine, or why it cannot run.
pub(crate) fn devices() -> Result<Vec<String>, String> {
    upcycle_llama_cpp::devices().map_err(|error| error.to_string())
}

fn options(choice: &LlamaCppChoice) -> Options {
    Options {
        n_gpu_layers: choice.n_gpu_layers,
        main_gpu: choice.main_gpu,
        split_mode: match choice.split_mode {
            SplitMode::None => upcycle_llama_cpp::SplitMode::None,
            SplitMode::Layer => upcycle_llama_cpp::SplitMode::Layer,
            SplitMode::Row => upcycle_llama_cpp::SplitMode::Row,
        },
        threads: choice.threads,
        threads_batch: choice.threads_batch,
        flash_attn: match choice.flash_attn {
            FlashAttention::Auto => upcycle_llama_cpp::FlashAttention::Auto,
            FlashAttention::On => upcycle_llama_cpp::FlashAttention::On,
            FlashAttention::Off => upcycle_llama_cpp::FlashAttention::Off,
        },
        row_invariant: choice.exact,
        cache_type_k: cache_type(choice.cache_type_k),
        cache_type_v: cache_type(choice.cache_type_v),
        mmap: choice.mmap,
        mlock: choice.mlock,
        n_ctx: choice.n_ctx,
        n_batch: choice.n_batch,
        n_ubatch: choice.n_ubatch,
        n_seq_max: choice.n_seq_max,
        rope_scaling: choice.rope_scaling.map(|scaling| match scaling {
            RopeScaling::None => upcycle_llama_cpp::RopeScaling::None,
            RopeScaling::Linear => upcycle_llama_cpp::RopeScaling::Linear,
            RopeScaling::Yarn => upcycle_llama_cpp::RopeScaling::Yarn,
        }),
        rope_freq_base: choice.rope_freq_base,
        rope_freq_scale: choice.rope_freq_scale,
        lora: choice.lora.clone().map(|(path, scale)| Lora { path, scale }),
    }
}

fn cache_type(choice: CacheType) -> upcycle_llama_cpp::CacheType {
    match choice {
        CacheType::F32 => upcycle_llama_cpp::CacheType::F32,
        CacheType::F16 => upcycle_llama_cpp::CacheType::F16,
        CacheType::Q8_0 => upcycle_llama_cpp::CacheType::Q8_0,
    }
}
