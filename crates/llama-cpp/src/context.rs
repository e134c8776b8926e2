//! A llama.cpp context: its batch, passes over it, and which sequence ids its cells carry.

use std::sync::Arc;

use llama_cpp_2::DecodeError;
use llama_cpp_2::context::params::LlamaContextParams;
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::model::{LlamaLoraAdapter, LlamaModel};
use llama_cpp_2::token::LlamaToken;
use upcycle_core::TokenId;

use crate::error::PassError;
use crate::native::{OwnedContext, listen};

/// A context and its batch.
///
/// llama.cpp aborts the process on an empty batch, on a batch of more than `n_batch` rows, and on a sequence id out of range.
/// This type refuses the first two; ids come from [`SeqIds`](crate::seq_ids::SeqIds) alone.
#[derive(Debug)]
pub(crate) struct Context {
    inner: OwnedContext,
    batch: LlamaBatch<'static>,
    rows: usize,
    wanted: usize,
    max_rows: usize,
    /// An id that no sequence has, for a second row beside a single one.
    padding_id: Option<i32>,
}

impl Context {
    /// A context whose rows can have up to `ids` ids. With `padding_id`, no pass has a single row, or a single row of logits.
    ///
    /// # Errors
    /// The reason that llama.cpp logs.
    pub(crate) fn new(
        model: Arc<LlamaModel>,
        backend: &LlamaBackend,
        params: LlamaContextParams,
        ids: u16,
        padding_id: Option<i32>,
    ) -> Result<Self, String> {
        let (made, reason) = listen(|| OwnedContext::new(model, backend, params));
        let inner = made.map_err(|_| reason)?;
        let n_batch = inner.n_batch();
        let batch = LlamaBatch::new(n_batch, i32::from(ids));
        let max_rows = n_batch.saturating_sub(padding_id.iter().len());
        Ok(Self { inner, batch, rows: 0, wanted: 0, max_rows, padding_id })
    }

    /// Applies an adapter.
    ///
    /// # Errors
    /// The reason that llama.cpp logs.
    pub(crate) fn set_adapter(&mut self, adapter: &mut LlamaLoraAdapter, scale: f32) -> Result<(), String> {
        let (set, reason) = listen(|| self.inner.set_adapter(adapter, scale));
        set.map_err(|_| reason)
    }

    /// The most rows of a pass.
    pub(crate) fn max_rows(&self) -> usize {
        self.max_rows
    }

    /// Cells of the cache.
    pub(crate) fn cells(&self) -> usize {
        self.inner.n_ctx().saturating_sub(self.padding_id.iter().len())
    }

    /// Empties the batch.
    pub(crate) fn clear(&mut self) {
        self.batch.clear();
        (self.rows, self.wanted) = (0, 0);
    }

    /// Rows in the batch.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Scores the batch and empties it, if `rows` more rows do not fit. No row in it may want logits.
    pub(crate) fn flush_unless_fits(&mut self, rows: usize) -> Result<(), PassError> {
        if self.rows + rows > self.max_rows {
            self.decode()?;
            self.clear();
        }
        Ok(())
    }

    /// Adds a row to the batch. `wants_logits` is whether its logits will be read.
    pub(crate) fn push(
        &mut self,
        token: TokenId,
        position: usize,
        ids: &[i32],
        wants_logits: bool,
    ) -> Result<(), PassError> {
        let refused = |reason: &str| PassError::Decode { code: -1, reason: reason.to_owned() };
        let (Ok(token), Ok(position)) = (i32::try_from(token), i32::try_from(position)) else {
            return Err(refused("a token or position does not fit in 31 bits"));
        };
        let added = self.batch.add(LlamaToken(token), position, ids, wants_logits);
        added.map_err(|_| refused("the batch is full"))?;
        self.rows += 1;
        self.wanted += usize::from(wants_logits);
        Ok(())
    }

    /// Scores the batch.
    ///
    /// # Errors
    /// [`PassError::Decode`]. Rows may be in the cache all the same.
    pub(crate) fn decode(&mut self) -> Result<(), PassError> {
        if self.rows == 0 {
            return Ok(());
        }
        let padding_id = self.padding_id.filter(|_| self.rows == 1 || self.wanted == 1);
        if let Some(id) = padding_id {
            self.push(0, 0, &[id], true)?;
        }
        let Self { inner, batch, .. } = self;
        let (result, reason) = listen(|| inner.decode(batch));
        if let Some(id) = padding_id {
            self.drop_from(id, 0)?;
        }
        result.map_err(|error| {
            let code = match error {
                DecodeError::NoKvCacheSlot => 1,
                DecodeError::NTokensZero => -1,
                DecodeError::Unknown(code) => code,
            };
            PassError::Decode { code, reason }
        })
    }

    /// The logits, `[vocab]`, of a row of the last batch that wants them.
    pub(crate) fn logits(&self, row: usize) -> &[f32] {
        self.inner.logits(i32::try_from(row).unwrap_or(i32::MAX))
    }

    /// Adds id `to` to the cells of id `from` at positions `start..end`.
    pub(crate) fn share(&mut self, from: i32, to: i32, start: usize, end: usize) {
        if start < end {
            // Fails only for positions that do not fit in 31 bits.
            let _ = self.inner.share(from, to, position(start)..position(end));
        }
    }

    /// Removes `id` from its cells at position `start` and later, or from all of its cells if llama.cpp cannot remove it from a
    /// part of them. Returns the position up to which it is left.
    pub(crate) fn shorten(&mut self, id: i32, start: usize) -> usize {
        if self.drop_from(id, start).is_ok() {
            return start;
        }
        // llama.cpp can always remove a whole sequence.
        if let Err(error) = self.inner.drop_from(id, 0) {
            tracing::error!(%error, "llama.cpp does not free the cells of its sequence {id}");
        }
        0
    }

    /// Removes `id` from its cells at position `start` and later. A cell without ids is free.
    ///
    /// # Errors
    /// [`PassError::Decode`] for a model that cannot be rolled back in part. Nothing has changed then.
    pub(crate) fn drop_from(&mut self, id: i32, start: usize) -> Result<(), PassError> {
        self.inner.drop_from(id, position(start)).map_err(|error| PassError::Decode {
            code: 0,
            reason: format!("the cache cannot drop a part of a sequence: {error}"),
        })
    }
}

/// A position as llama.cpp's type. Contexts are far shorter than 2^31.
fn position(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(i32::MAX as u32)
}
