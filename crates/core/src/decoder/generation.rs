//! One prompt at a time.

use super::{DecodeError, Decoder};
use crate::{Drafter, FinishReason, Session, Stats, TokenId, Verifier};

/// One prompt being decoded: an iterator over its tokens, which come as they are accepted.
///
/// It ends when the text does, and after an error, so that whoever goes through all of it does not meet the same error for
/// ever; asked once more after that end, it tries again.
#[derive(Debug)]
pub struct Generation<'a, V: Verifier, D: Drafter> {
    pub(super) decoder: &'a mut Decoder<V, D>,
    pub(super) session: [Session; 1],
    pub(super) next: usize,
    /// The last item was an error.
    pub(super) failed: bool,
}

impl<V: Verifier, D: Drafter> Generation<'_, V, D> {
    /// The session: its output so far, its statistics.
    pub fn session(&self) -> &Session {
        &self.session[0]
    }

    /// Why it ended; none while it goes on.
    #[must_use]
    pub fn finish_reason(&self) -> Option<FinishReason> {
        self.session[0].finish_reason()
    }

    /// What it took so far.
    #[must_use]
    pub fn stats(&self) -> &Stats {
        self.session[0].stats()
    }

    /// Ends it: tokens already accepted still come, and no step follows.
    pub fn cancel(&mut self) {
        self.session[0].cancel();
    }

    /// One step, for callers who want to work between steps: the tokens that it emitted (none for a chunk of the
    /// prompt), or `None` at the end. Do not mix with the iterator.
    ///
    /// # Errors
    /// As [`Decoder::step`].
    pub fn step(&mut self) -> Result<Option<&[TokenId]>, DecodeError> {
        if self.finish_reason().is_some() {
            return Ok(None);
        }
        self.decoder.step(&mut self.session)?;
        self.next = self.session[0].tokens.len();
        Ok(Some(self.session[0].new_tokens()))
    }
}

impl<V: Verifier, D: Drafter> Iterator for Generation<'_, V, D> {
    type Item = Result<TokenId, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if std::mem::take(&mut self.failed) {
            return None;
        }
        loop {
            if let Some(&token) = self.session[0].tokens.get(self.next) {
                self.next += 1;
                return Some(Ok(token));
            }
            if self.finish_reason().is_some() {
                return None;
            }
            if let Err(error) = self.decoder.step(&mut self.session) {
                self.failed = true;
                return Some(Err(error));
            }
        }
    }
}

impl<V: Verifier, D: Drafter> Drop for Generation<'_, V, D> {
    fn drop(&mut self) {
        let seq = self.session[0].seq;
        self.decoder.verifier.close(seq);
        self.decoder.drafter.forget(seq);
    }
}
