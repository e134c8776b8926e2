//! A sequence whose state cannot be rolled back in part. Its cache is filled again whenever it does not hold the committed
//! tokens.

use upcycle_core::TokenId;

use crate::context::Context;
use crate::error::PassError;

/// The id and the tokens of a sequence.
#[derive(Debug)]
pub(crate) struct Replay {
    id: i32,
    committed: Vec<TokenId>,
    /// The pending tokens: scored and not yet committed.
    pending: Vec<TokenId>,
    /// The cache holds this many tokens of `committed` followed by `pending`; none if it holds others.
    cached: Option<usize>,
}

impl Replay {
    pub(crate) fn new(id: i32) -> Self {
        Self { id, committed: Vec::new(), pending: Vec::new(), cached: Some(0) }
    }

    pub(crate) fn id(&self) -> i32 {
        self.id
    }

    /// Makes the cache hold exactly the committed tokens. The pending tokens stay in their list.
    pub(crate) fn refresh(&mut self, context: &mut Context) -> Result<(), PassError> {
        if self.cached == Some(self.committed.len()) {
            return Ok(());
        }
        self.cached = None;
        context.drop_from(self.id, 0)?;
        let max_rows = context.max_rows();
        for (chunk, tokens) in self.committed.chunks(max_rows).enumerate() {
            context.clear();
            for (at, &token) in tokens.iter().enumerate() {
                context.push(token, chunk * max_rows + at, &[self.id], false)?;
            }
            context.decode()?;
        }
        self.cached = Some(self.committed.len());
        Ok(())
    }

    /// Marks the content of the cache as unknown: a pass is about to add rows, or has failed.
    pub(crate) fn invalidate(&mut self) {
        self.cached = None;
    }

    /// Makes the tokens of a pass that succeeded the pending ones.
    pub(crate) fn finish_pass(&mut self, tokens: &[TokenId]) {
        self.pending.clear();
        self.pending.extend_from_slice(tokens);
        self.cached = Some(self.committed.len() + tokens.len());
    }

    /// Commits the first `len` pending tokens.
    pub(crate) fn commit(&mut self, len: usize) {
        self.committed.extend(self.pending.drain(..).take(len));
    }

    pub(crate) fn truncate(&mut self, len: usize) {
        self.pending.clear();
        if self.committed.len() > len {
            self.committed.truncate(len);
            self.cached = None;
        }
    }
}
