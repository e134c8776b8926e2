//! The families of models that are known.

use std::fmt;

/// A family of decoders with RMS normalization, rotary embeddings, grouped queries and SwiGLU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Architecture {
    /// Llama, Mistral, SmolLM and others alike.
    Llama,
    /// Qwen 2 and 2.5: queries, keys and values have a bias.
    Qwen2,
    /// Qwen 3: each head's queries and keys are normalized before they turn.
    Qwen3,
}

impl Architecture {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Llama, Self::Qwen2, Self::Qwen3];

    /// Their names.
    pub const NAMES: &'static [&'static str] = &[Self::Llama.name(), Self::Qwen2.name(), Self::Qwen3.name()];

    /// The name under `general.architecture`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
        }
    }

    /// The one of this name, if it is known.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|architecture| architecture.name() == name)
    }

    /// Whether every model of it has a bias on queries, keys and values. Models of the others may have one.
    #[must_use]
    pub const fn is_biased(self) -> bool {
        matches!(self, Self::Qwen2)
    }

    /// Whether each head's queries and keys are normalized, `blk.N.attn_q_norm` and `blk.N.attn_k_norm`.
    #[must_use]
    pub const fn normalizes_heads(self) -> bool {
        matches!(self, Self::Qwen3)
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
