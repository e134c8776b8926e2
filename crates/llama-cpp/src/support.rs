//! Which trees can be verified with a model, according to its file.

use upcycle_checkpoint::gguf::Gguf;
use upcycle_core::Support;

/// How a model remembers a text. This decides what can be rolled back.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ModelKind {
    /// By keys and values of every position. Any tree and any rollback is possible.
    Attention,
    /// Some layers see only a window of the last positions, and llama.cpp reuses the cells before it.
    SlidingWindow,
    /// By a state that each token overwrites.
    Recurrent,
    /// Some layers attend to keys and values, others have a state.
    Hybrid,
    /// The model does not predict the next token of a text.
    NotGenerative {
        /// What it does instead.
        what: &'static str,
    },
}

/// Architectures of llama.cpp 0.6 with only a state.
const RECURRENT: &[&str] = &["mamba", "mamba2", "rwkv6", "rwkv6qwen2", "rwkv7", "arwkv7"];

/// Architectures with layers of both kinds.
const HYBRID: &[&str] = &[
    "jamba",
    "falcon-h1",
    "plamo2",
    "granitehybrid",
    "lfm2",
    "lfm2moe",
    "nemotron_h",
    "nemotron_h_moe",
    "qwen3next",
    "kimi-linear",
    "bailingmoe3",
    "kimi-k3",
    "glm5-next",
    "qwen35",
    "qwen35moe",
    "qwen4exp",
    "deepseek4",
    "minimax-01",
];

/// Architectures with a sliding window, unless their file states that it is 0.
const SLIDING: &[&str] = &[
    "afmoe",
    "cohere2",
    "cohere2moe",
    "dots3note",
    "exaone-moe",
    "exaone4",
    "gemma2",
    "gemma3",
    "gemma3n",
    "gemma4",
    "gpt-oss",
    "granite_swa",
    "laguna",
    "llama4",
    "maple",
    "mellum",
    "mimo2",
    "muse-glimmer",
    "olmo2",
    "plamo3",
    "smallthinker",
    "spark2_5",
    "step35",
];

/// Architectures whose files may state a window that llama.cpp does not apply.
const WINDOW_IGNORED: &[&str] = &[
    "llama",
    "mistral3",
    "mistral4",
    "phi3",
    "phimoe",
    "qwen2",
    "qwen2moe",
    "qwen3",
    "qwen3moe",
    "starcoder2",
];

/// Architectures that do not continue texts.
const NOT_GENERATIVE: &[(&[&str], &str)] = &[
    (&["t5", "t5encoder"], "encodes a text before it answers"),
    (&["dream", "llada", "llada-moe", "rnd1"], "fills in a text in no fixed order (diffusion)"),
    (&["eagle3", "dflash", "gemma4-assistant"], "drafts for another model"),
    (&["clip", "wavtokenizer-dec", "qwen3tts", "pockettts"], "works on images or sound"),
    (
        &[
            "bert",
            "modern-bert",
            "nomic-bert",
            "nomic-bert-moe",
            "neo-bert",
            "jina-bert-v2",
            "jina-bert-v3",
            "eurobert",
            "gemma-embedding",
            "llama-embed",
            "pangu-embedded",
            "clef",
        ],
        "embeds texts",
    ),
];

/// How the model in this file remembers a text.
///
/// ```
/// use upcycle_checkpoint::gguf::{Gguf, write::GgufWriter};
/// use upcycle_llama_cpp::{ModelKind, kind_of};
///
/// let file = GgufWriter::new().metadata("general.architecture", "mamba").to_bytes()?;
/// assert_eq!(kind_of(&Gguf::read(&mut std::io::Cursor::new(file))?), ModelKind::Recurrent);
/// # Ok::<(), upcycle_checkpoint::gguf::GgufError>(())
/// ```
#[must_use]
pub fn kind_of(gguf: &Gguf) -> ModelKind {
    let architecture = gguf.get_string("general.architecture").ok().flatten().unwrap_or_default();
    let is = |names: &[&str]| names.contains(&architecture);
    if let Some((_, what)) = NOT_GENERATIVE.iter().find(|(names, _)| is(names)) {
        return ModelKind::NotGenerative { what };
    }
    if gguf.get_bool(&format!("{architecture}.attention.causal")).ok().flatten() == Some(false) {
        return ModelKind::NotGenerative { what: "attends to what follows a token" };
    }
    if is(RECURRENT) {
        return ModelKind::Recurrent;
    }
    if is(HYBRID) {
        return ModelKind::Hybrid;
    }
    let key = format!("{architecture}.attention.sliding_window");
    // A value of another type, such as a list, means that there are windows too.
    let window = gguf.get(&key).map(|value| value.as_integer() != Some(0));
    match window {
        None => {
            if is(SLIDING) {
                ModelKind::SlidingWindow
            } else {
                ModelKind::Attention
            }
        }
        // Architectures that are not listed here count as well.
        Some(true) if !is(WINDOW_IGNORED) => ModelKind::SlidingWindow,
        Some(_) => ModelKind::Attention,
    }
}

impl ModelKind {
    /// Which trees can be verified.
    #[must_use]
    pub fn support(&self) -> Support {
        let plain = |reason: &str| Support::Plain { reason: reason.to_owned() };
        match self {
            ModelKind::Attention => Support::Tree,
            ModelKind::SlidingWindow => plain(
                "its layers with a sliding window reuse cells that a rollback would need, in this version of llama.cpp",
            ),
            ModelKind::Recurrent => {
                plain("its state is overwritten by each token, and cannot be rolled back in part")
            }
            ModelKind::Hybrid => plain(
                "the state of its recurrent layers is overwritten by each token, and cannot be rolled back in part",
            ),
            ModelKind::NotGenerative { .. } => plain("it does not predict the next token"),
        }
    }
}
