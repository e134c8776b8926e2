//! The answer to a request, as it comes.

use std::collections::VecDeque;

use upcycle_core::{FinishReason, Stats, TokenId, TokenLogprobs};
use upcycle_text::{Detokenizer, StopFilter};

use super::channel::{News, Receiver};
use super::error::RequestError;
use super::piece::Piece;
use super::spans::DraftSpans;

/// An answer: an iterator over its text, piece by piece, as the model emits it. It ends after an error.
///
/// The calls block until the next piece is there. With the cargo feature `async`, an answer is also a `futures::Stream`.
///
/// Dropping an answer cancels it: the engine ends the request before its next pass.
#[derive(Debug)]
pub struct Answer {
    receiver: Receiver,
    /// Reused from look to look.
    news: News,
    detokenizer: Detokenizer,
    filter: StopFilter,
    spans: DraftSpans,
    /// Text that the caller has not taken yet.
    pieces: VecDeque<Piece>,
    /// Log probabilities that no piece has yet, each with the position of its token's text in the whole text.
    logprobs: VecDeque<(usize, TokenLogprobs)>,
    /// Bytes of the text so far, and of the pieces that were taken.
    decoded: usize,
    taken: usize,
    tokens: Vec<TokenId>,
    prompt_tokens: usize,
    prefilled: usize,
    end: Option<FinishReason>,
    failed: bool,
    /// Why it failed, until the caller is told: after the text that came before.
    error: Option<RequestError>,
    stats: Stats,
}

impl Answer {
    pub(super) fn new(
        receiver: Receiver,
        prompt_tokens: usize,
        detokenizer: Detokenizer,
        filter: StopFilter,
    ) -> Self {
        Self {
            receiver,
            news: News::default(),
            detokenizer,
            filter,
            spans: DraftSpans::default(),
            pieces: VecDeque::new(),
            logprobs: VecDeque::new(),
            decoded: 0,
            taken: 0,
            tokens: Vec::new(),
            prompt_tokens,
            prefilled: 0,
            end: None,
            failed: false,
            error: None,
            stats: Stats::default(),
        }
    }

    /// Tokens of the prompt.
    #[must_use]
    pub fn prompt_tokens(&self) -> usize {
        self.prompt_tokens
    }

    /// Tokens of the prompt that have been read so far.
    #[must_use]
    pub fn prefilled(&self) -> usize {
        self.prefilled
    }

    /// Tokens of the prompt that were in the cache already; known at the end.
    #[must_use]
    pub fn cached_tokens(&self) -> usize {
        if self.end.is_some() { self.prompt_tokens.saturating_sub(self.stats.prefilled) } else { 0 }
    }

    /// All tokens that came so far, the end token included.
    #[must_use]
    pub fn tokens(&self) -> &[TokenId] {
        &self.tokens
    }

    /// Why the text ended; `None` before that.
    #[must_use]
    pub fn finish_reason(&self) -> Option<FinishReason> {
        self.end
    }

    /// The stop string that ended the text.
    #[must_use]
    pub fn stopped_by(&self) -> Option<&str> {
        self.filter.stopped_by()
    }

    /// The statistics; empty before the end.
    #[must_use]
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Waits for the end and returns all text that was not taken yet.
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn text(&mut self) -> Result<String, RequestError> {
        let mut text = String::new();
        for piece in self {
            text.push_str(&piece?.text);
        }
        Ok(text)
    }

    /// Waits until something has come: a part of the prompt was read, tokens, or the end. `false` after the end.
    ///
    /// This is for callers who want to act between two pieces, as for showing how much of a long prompt has been read. Take
    /// the text with [`take_piece`](Self::take_piece).
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn advance(&mut self) -> Result<bool, RequestError> {
        if self.is_over() {
            return Ok(false);
        }
        let is_new = self.receiver.wait(&mut self.news);
        self.handle(is_new);
        self.error.take().map_or(Ok(true), Err)
    }

    /// The next piece, if one has come.
    pub fn take_piece(&mut self) -> Option<Piece> {
        let mut piece = self.pieces.pop_front()?;
        self.taken += piece.text.len();
        while let Some((_, logprobs)) = self.logprobs.pop_front_if(|(begin, _)| *begin < self.taken) {
            piece.logprobs.push(logprobs);
        }
        Some(piece)
    }

    /// The next item of the iterator, if it has come.
    fn take_next(&mut self) -> Option<Result<Piece, RequestError>> {
        self.take_piece().map(Ok).or_else(|| self.error.take().map(Err))
    }

    fn is_over(&self) -> bool {
        self.end.is_some() || self.failed
    }

    /// Takes in the news, or the loss of the engine if there are none.
    fn handle(&mut self, is_new: bool) {
        let handled = if is_new { self.take_news() } else { Err(RequestError::ShutDown) };
        self.error = handled.err();
        self.failed = self.error.is_some();
    }

    fn take_news(&mut self) -> Result<(), RequestError> {
        let mut news = std::mem::take(&mut self.news);
        self.prefilled = news.prefilled;
        let mut logprobs = news.logprobs.drain(..);
        for &(token, drafted) in &news.tokens {
            self.logprobs.extend(logprobs.next().map(|logprobs| (self.decoded, logprobs)));
            self.push(token, drafted)?;
        }
        drop(logprobs);
        let end = news.end.take();
        self.news = news;
        let Some(end) = end else { return Ok(()) };
        let (reason, stats) = end?;
        let rest = self.detokenizer.finish();
        self.spans.push(rest.len(), false);
        let shown = self.filter.push(rest);
        self.spans.split(shown, &mut self.pieces);
        // `finish` clears `stopped_by`, so it is not called after a stop string.
        if self.filter.stopped_by().is_none() {
            self.spans.split(&self.filter.finish(), &mut self.pieces);
        }
        (self.end, self.stats) = (Some(reason), *stats);
        Ok(())
    }

    fn push(&mut self, token: TokenId, drafted: bool) -> Result<(), RequestError> {
        self.tokens.push(token);
        let text = self.detokenizer.push(token)?;
        self.decoded += text.len();
        self.spans.push(text.len(), drafted);
        self.spans.split(self.filter.push(text), &mut self.pieces);
        Ok(())
    }
}

impl Iterator for Answer {
    type Item = Result<Piece, RequestError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(next) = self.take_next() {
                return Some(next);
            }
            if self.is_over() {
                return None;
            }
            let is_new = self.receiver.wait(&mut self.news);
            self.handle(is_new);
        }
    }
}

#[cfg(feature = "async")]
impl futures_core::Stream for Answer {
    type Item = Result<Piece, RequestError>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        use std::task::{Poll, ready};
        loop {
            if let Some(next) = self.take_next() {
                return Poll::Ready(Some(next));
            }
            if self.is_over() {
                return Poll::Ready(None);
            }
            let answer = &mut *self;
            let is_new = ready!(answer.receiver.poll(context, &mut answer.news));
            answer.handle(is_new);
        }
    }
}
