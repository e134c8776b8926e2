//! The state of one sequence where it cannot be rolled back in part: the cache is a memo of a list of tokens, and is filled anew
//! when it is of other ones.

use upcycle_core::TokenId;

use crate::PassError;
use crate::context::Context;

/// A sequence's id and tokens.
#[derive(Debug)]
pub(crate) struct Replay {
    id: i32,
    committed: Vec<TokenId>,
    /// Tokens that are scored and wait for a commit.
    pending: Vec<TokenId>,
    /// The tokens in the cache are the first so many of `committed` and then `pending`; none if they are others.
    cached: Option<usize>,
}

impl Replay {
    pub(crate) fn new(id: i32) -> Self {
        Self { id, committed: Vec::new(), pending: Vec::new(), cached: Some(0) }
    }

    pub(crate) fn id(&self) -> i32 {
        self.id
    }

    /// Whether the cache has to be filled anew before a pass.
    fn stale(&self) -> bool {
        self.cached != Some(self.committed.len())
    }

    /// Makes the cache hold exactly what is committed. What waits for a commit stays as a list.
    pub(crate) fn refresh(&mut self, context: &mut Context) -> Result<(), PassError> {
        if !self.stale() {
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

    /// A pass is about to add rows to the cache, or has failed: what it holds is not known.
    pub(crate) fn unknown(&mut self) {
        self.cached = None;
    }

    /// The pass succeeded: its tokens wait for a commit.
    pub(crate) fn succeed(&mut self, tokens: &[TokenId]) {
        self.pending.clear();
        self.pending.extend_from_slice(tokens);
        self.cached = Some(self.committed.len() + tokens.len());
    }

    /// Keeps the first `len` of the tokens that wait.
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
