//! The channel from the engine's thread to an answer.
//!
//! Sending never waits. It allocates nothing as long as at most [`UNREAD`] tokens wait to be read.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
#[cfg(feature = "async")]
use std::task::{Context, Poll};

use upcycle_core::{FinishReason, Stats, TokenId, TokenLogprobs};

use super::error::RequestError;

/// Unread tokens for which there is room from the start. The buffer grows if an answer is read more slowly.
const UNREAD: usize = 1024;

/// What has come of an answer since its reader looked last.
#[derive(Debug, Default)]
pub(super) struct News {
    /// How many tokens of the prompt are in the KV cache.
    pub(super) prefilled: usize,
    /// The tokens, and whether each was drafted.
    pub(super) tokens: Vec<(TokenId, bool)>,
    /// Their log probabilities, if they are asked for.
    pub(super) logprobs: Vec<TokenLogprobs>,
    pub(super) end: Option<End>,
}

/// How an answer ended.
pub(super) type End = Result<(FinishReason, Box<Stats>), RequestError>;

#[derive(Debug, Default)]
struct Channel {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    news: News,
    is_new: bool,
    sender_dropped: bool,
    waker: Option<Waker>,
}

impl Channel {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self, waker: Option<Waker>) {
        self.changed.notify_one();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

pub(super) fn channel() -> (Sender, Receiver) {
    let channel = Arc::new(Channel::default());
    (Sender(Arc::clone(&channel)), Receiver(channel))
}

/// The sending half, which the engine's thread holds.
#[derive(Debug)]
pub(super) struct Sender(Arc<Channel>);

impl Sender {
    /// Makes room for the tokens to come.
    pub(super) fn reserve(&self) {
        self.0.state().news.tokens.reserve(UNREAD);
    }

    /// Whether the answer was dropped.
    pub(super) fn is_closed(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }

    /// Changes the news with `change` and wakes the reader.
    pub(super) fn send(&self, change: impl FnOnce(&mut News)) {
        let mut state = self.0.state();
        change(&mut state.news);
        state.is_new = true;
        let waker = state.waker.take();
        drop(state);
        self.0.wake(waker);
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.sender_dropped = true;
        let waker = state.waker.take();
        drop(state);
        self.0.wake(waker);
    }
}

/// The receiving half, which the answer holds.
#[derive(Debug)]
pub(super) struct Receiver(Arc<Channel>);

impl Receiver {
    /// Waits for news and moves them to `into`. `false` if none can come.
    pub(super) fn wait(&self, into: &mut News) -> bool {
        let state = self.0.state();
        let waiting = |state: &mut State| !state.is_new && !state.sender_dropped;
        let mut state = self.0.changed.wait_while(state, waiting).unwrap_or_else(PoisonError::into_inner);
        state.take(into)
    }

    /// As [`wait`](Self::wait), for a task.
    #[cfg(feature = "async")]
    pub(super) fn poll(&self, context: &Context<'_>, into: &mut News) -> Poll<bool> {
        let mut state = self.0.state();
        if state.is_new || state.sender_dropped {
            return Poll::Ready(state.take(into));
        }
        state.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

impl State {
    /// Moves the news to `into`, so that the buffers stay here. `false` if there are none.
    fn take(&mut self, into: &mut News) -> bool {
        if !std::mem::take(&mut self.is_new) {
            return false;
        }
        into.prefilled = self.news.prefilled;
        into.tokens.clear();
        into.tokens.append(&mut self.news.tokens);
        into.logprobs.clear();
        into.logprobs.append(&mut self.news.logprobs);
        into.end = self.news.end.take();
        true
    }
}
