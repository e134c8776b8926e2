//! One llama.cpp context: a batch to fill, a pass over it, and the bits of its cells.

use std::sync::Arc;

use llama_cpp_2::DecodeError;
use llama_cpp_2::context::params::LlamaContextParams;
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::token::LlamaToken;
use upcycle_core::TokenId;

use crate::native::{OwnedContext, listen};
use crate::{Model, PassError};

/// A context and its batch.
///
/// llama.cpp stops the process on an empty batch, on one of more rows than `n_batch` and on a sequence id out of range. The
/// first two are refused here, and ids come from [`Ids`](crate::ids::Ids) alone.
#[derive(Debug)]
pub(crate) struct Context {
    inner: OwnedContext,
    batch: LlamaBatch<'static>,
    rows: usize,
    wanted: usize,
    max_rows: usize,
    /// An id that no sequence has, for a row that makes a pass one of two rows.
    beside: Option<i32>,
}

impl Context {
    /// A context whose batch has rows of up to `ids` ids. With `beside`, an id that nobody has, no pass has a single row, nor a
    /// single one whose logits are wanted.
    ///
    /// # Errors
    /// What llama.cpp says.
    pub(crate) fn new(
        model: Arc<Model>,
        backend: &LlamaBackend,
        params: LlamaContextParams,
        ids: u16,
        beside: Option<i32>,
    ) -> Result<Self, String> {
        let (made, reason) = listen(|| OwnedContext::new(model, backend, params));
        let inner = made.map_err(|_| reason)?;
        let n_batch = inner.n_batch() as usize;
        let batch = LlamaBatch::new(n_batch, i32::from(ids));
        let max_rows = n_batch.saturating_sub(beside.iter().len());
        Ok(Self { inner, batch, rows: 0, wanted: 0, max_rows, beside })
    }

    pub(crate) fn inner(&mut self) -> &mut OwnedContext {
        &mut self.inner
    }

    pub(crate) fn model(&self) -> &Arc<Model> {
        self.inner.model()
    }

    /// Rows of a pass at most.
    pub(crate) fn max_rows(&self) -> usize {
        self.max_rows
    }

    /// Cells of the cache.
    pub(crate) fn cells(&self) -> usize {
        (self.inner.n_ctx() as usize).saturating_sub(self.beside.iter().len())
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

    /// Scores what is in the batch, of which no logits are wanted, if `rows` more do not fit.
    pub(crate) fn make_room(&mut self, rows: usize) -> Result<(), PassError> {
        if self.rows + rows > self.max_rows {
            self.decode()?;
            self.clear();
        }
        Ok(())
    }

    /// Adds a row to the batch; `wanted` is whether its logits are.
    pub(crate) fn push(
        &mut self,
        token: TokenId,
        position: usize,
        ids: &[i32],
        wanted: bool,
    ) -> Result<(), PassError> {
        let refused = |reason: &str| PassError::Decode { code: -1, reason: reason.to_owned() };
        let (Ok(token), Ok(position)) = (i32::try_from(token), i32::try_from(position)) else {
            return Err(refused("a token or position beyond 31 bits"));
        };
        let added = self.batch.add(LlamaToken(token), position, ids, wanted);
        added.map_err(|_| refused("more rows than a batch holds"))?;
        self.rows += 1;
        self.wanted += usize::from(wanted);
        Ok(())
    }

    /// Scores the batch.
    ///
    /// # Errors
    /// [`PassError::Decode`]; rows may have been added to the cache all the same.
    pub(crate) fn decode(&mut self) -> Result<(), PassError> {
        if self.rows == 0 {
            return Ok(());
        }
        let beside = self.beside.filter(|_| self.rows == 1 || self.wanted == 1);
        if let Some(id) = beside {
            self.push(0, 0, &[id], true)?;
        }
        let Self { inner, batch, .. } = self;
        let (result, reason) = listen(|| inner.decode(batch));
        if let Some(id) = beside {
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

    /// The logits of a row of the last batch that wanted them, `[vocab]`.
    pub(crate) fn logits(&self, row: usize) -> &[f32] {
        self.inner.get_logits_ith(i32::try_from(row).unwrap_or(i32::MAX))
    }

    /// Gives the cells of `from` at positions `start..end` to `to` as well.
    pub(crate) fn share(&mut self, from: i32, to: i32, start: usize, end: usize) {
        if start < end {
            let (start, end) = (position(start), position(end));
            // It fails on positions beyond 31 bits alone.
            let _ = self.inner.kv_cache_seq_cp(from, to, start, end);
        }
    }

    /// Takes the cells at `start` and behind from `id`.
    ///
    /// # Errors
    /// [`PassError::Decode`] for a model that cannot give up a part; nothing has changed then.
    pub(crate) fn drop_from(&mut self, id: i32, start: usize) -> Result<(), PassError> {
        self.inner.kv_cache_seq_rm(id, position(start), None).map_err(|error| PassError::Decode {
            code: 0,
            reason: format!("the cache gives up no part of a sequence: {error}"),
        })
    }
}

/// A position as llama.cpp takes it. Contexts are far shorter than 31 bits.
fn position(at: usize) -> Option<u32> {
    Some(u32::try_from(at).unwrap_or(i32::MAX as u32))
}
