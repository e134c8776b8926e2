//! One prompt at a time, as an iterator.

use super::Decoder;
use super::error::DecodeError;
use crate::drafter::Drafter;
use crate::session::{FinishReason, Request, Session};
use crate::stats::Stats;
use crate::token::TokenId;
use crate::verifier::Verifier;

/// One prompt being decoded: an iterator over its tokens, which come as they are accepted.
///
/// It ends when the sequence is finished. It also ends after an error, so that a loop over it cannot repeat the same error
/// forever: the call after the error returns `None`, and the call after that retries the step. Dropping it closes its sequence.
#[derive(Debug)]
pub struct Generation<'a, V: Verifier, D: Drafter> {
    decoder: &'a mut Decoder<V, D>,
    session: Session,
    /// The position of the next token to return.
    next: usize,
    /// The last item was an error.
    failed: bool,
}

impl<V: Verifier, D: Drafter> Decoder<V, D> {
    /// Decodes one prompt, token by token, as an iterator.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn generate(
        &mut self,
        prompt: &[TokenId],
        request: Request,
    ) -> Result<Generation<'_, V, D>, DecodeError> {
        let session = self.open(prompt, request)?;
        Ok(Generation { decoder: self, session, next: prompt.len(), failed: false })
    }
}

impl<V: Verifier, D: Drafter> Generation<'_, V, D> {
    /// The session: its output so far, its statistics.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Why the text ended; `None` while decoding continues.
    #[must_use]
    pub fn finish_reason(&self) -> Option<FinishReason> {
        self.session.finish_reason()
    }

    /// The statistics so far.
    #[must_use]
    pub fn stats(&self) -> &Stats {
        self.session.stats()
    }

    /// Ends the text. Tokens that were already accepted are still returned, and no step follows.
    pub fn cancel(&mut self) {
        self.session.cancel();
    }

    /// Runs one step, for callers who want to work between steps. Returns the tokens that it emitted (none for a chunk of
    /// the prompt), or `None` at the end. Do not mix with the iterator.
    ///
    /// # Errors
    /// As [`Decoder::step_one`].
    pub fn step(&mut self) -> Result<Option<&[TokenId]>, DecodeError> {
        if self.finish_reason().is_some() {
            return Ok(None);
        }
        self.decoder.step_one(&mut self.session)?;
        self.next = self.session.tokens.len();
        Ok(Some(self.session.new_tokens()))
    }
}

impl<V: Verifier, D: Drafter> Iterator for Generation<'_, V, D> {
    type Item = Result<TokenId, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if std::mem::take(&mut self.failed) {
            return None;
        }
        loop {
            if let Some(&token) = self.session.tokens.get(self.next) {
                self.next += 1;
                return Some(Ok(token));
            }
            if self.finish_reason().is_some() {
                return None;
            }
            if let Err(error) = self.decoder.step_one(&mut self.session) {
                self.failed = true;
                return Some(Err(error));
            }
        }
    }
}

impl<V: Verifier, D: Drafter> Drop for Generation<'_, V, D> {
    fn drop(&mut self) {
        // Closes the sequence now, not at the decoder's next step. The session queues its id once more; closing an unknown id
        // does nothing.
        self.decoder.close_sequence(self.session.seq);
    }
}
