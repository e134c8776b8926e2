//! Sizes from the header of a model file.

use std::ops::RangeInclusive;
use std::path::Path;

use upcycle_checkpoint::gguf::Gguf;

use crate::error::LoadError;
use crate::options::Options;

/// The sizes that this crate needs.
pub(crate) struct Header {
    pub(crate) architecture: String,
    /// Elements of the cache for each token.
    cached_keys: u64,
    cached_values: u64,
}

impl Header {
    /// Reads the header and checks the sizes that would make llama.cpp abort the process.
    ///
    /// # Errors
    /// [`LoadError::Gguf`], [`LoadError::Metadata`].
    pub(crate) fn read(path: &Path, gguf: &Gguf) -> Result<Self, LoadError> {
        let architecture = gguf
            .string("general.architecture")
            .map_err(|source| LoadError::Gguf { path: path.to_owned(), source })?
            .to_owned();
        let bounded = |part: &str, range: RangeInclusive<u64>| {
            let key = format!("{architecture}.{part}");
            match gguf.get_u64(&key).ok().flatten() {
                Some(found) if !range.contains(&found) => {
                    let expected = format!("{} to {}", range.start(), range.end());
                    Err(LoadError::Metadata { key, found, expected })
                }
                size => Ok(size),
            }
        };
        let layers = bounded("block_count", 1..=512)?.unwrap_or(0);
        let width = bounded("embedding_length", 1..=1 << 20)?.unwrap_or(0);
        let heads = bounded("attention.head_count", 0..=1 << 16)?.unwrap_or(0);
        let kv_heads = bounded("attention.head_count_kv", 0..=1 << 16)?.unwrap_or(heads);
        bounded("context_length", 1..=1 << 30)?;
        let head_width = width.checked_div(heads).unwrap_or(0);
        let keys = bounded("attention.key_length", 1..=1 << 16)?.unwrap_or(head_width);
        let values = bounded("attention.value_length", 1..=1 << 16)?.unwrap_or(head_width);
        let heads = layers * kv_heads;
        Ok(Self { architecture, cached_keys: heads * keys, cached_values: heads * values })
    }

    /// The size of a cache of `n_ctx` tokens.
    pub(crate) fn cache_bytes(&self, options: &Options, n_ctx: u32) -> u64 {
        let elements = |of_a_token: u64| of_a_token.saturating_mul(n_ctx.into());
        let keys = options.cache_type_k.bytes(elements(self.cached_keys));
        keys.saturating_add(options.cache_type_v.bytes(elements(self.cached_values)))
    }
}
