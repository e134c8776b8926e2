use std::fmt;

/// A model family: decoders with RMS normalization, rotary embeddings, grouped-query attention and SwiGLU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Architecture {
    /// Llama, Mistral, SmolLM and compatible models.
    Llama,
    /// Qwen 2 and 2.5, with a bias on queries, keys and values.
    Qwen2,
    /// Qwen 3, which normalizes each head's queries and keys before rotation.
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

    /// The architecture with this name, if known.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|architecture| architecture.name() == name)
    }

    /// Whether all its models have a bias on queries, keys and values. Other models may have one.
    #[must_use]
    pub const fn is_biased(self) -> bool {
        matches!(self, Self::Qwen2)
    }

    /// Whether it normalizes each head's queries and keys (`blk.N.attn_q_norm`, `blk.N.attn_k_norm`).
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
