//! An answer as a stream of parts, and as server-sent events.

use std::convert::Infallible;
use std::time::Instant;

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream, StreamExt};
use serde::Serialize;
use upcycle::{Answer, Piece, Request};
use upcycle_core::TokenLogprobs;

use crate::app::App;
use crate::error::ApiError;
use crate::summary::Summary;

/// What comes of an answer.
#[derive(Debug)]
pub(crate) enum Part {
    Text(Piece),
    End(Summary),
    Failed(ApiError),
}

/// Begins an answer. The prompt is encoded on a thread for blocking work, since a long one takes milliseconds.
pub(crate) async fn begin(app: &App, request: Request) -> Result<Answer, ApiError> {
    let engine = app.engine.clone();
    let begun = tokio::task::spawn_blocking(move || engine.generate(request)).await;
    match begun {
        Ok(answer) => Ok(answer?),
        Err(panicked) => Err(ApiError::internal(panicked.to_string())),
    }
}

/// Begins `count` answers to one prompt, which differ in their noise.
pub(crate) async fn begin_all(app: &App, request: &Request, count: u32) -> Result<Vec<Answer>, ApiError> {
    let mut answers = Vec::new();
    for index in 0..count {
        answers.push(begin(app, request.clone().sample_index(index)).await?);
    }
    Ok(answers)
}

/// The parts of an answer, as they come. The last is [`Part::End`] or [`Part::Failed`].
pub(crate) fn parts(app: App, answer: Answer) -> impl Stream<Item = Part> + Send + 'static {
    let timer = Timer { start: Instant::now(), last: None, tokens: 0 };
    stream::unfold(Some((app, answer, timer)), |state| async move {
        let (app, mut answer, mut timer) = state?;
        let part = match StreamExt::next(&mut answer).await {
            Some(Ok(piece)) => {
                timer.piece(&app, answer.tokens().len());
                return Some((Part::Text(piece), Some((app, answer, timer))));
            }
            Some(Err(error)) => Part::Failed(error.into()),
            None => {
                let summary = Summary::new(&answer);
                app.metrics.finished(&summary, answer.stats(), timer.start.elapsed());
                Part::End(summary)
            }
        };
        Some((part, None))
    })
}

/// Measures what a client waits for.
struct Timer {
    start: Instant,
    last: Option<Instant>,
    tokens: usize,
}

impl Timer {
    fn piece(&mut self, app: &App, tokens: usize) {
        let now = Instant::now();
        match self.last.replace(now) {
            None => app.metrics.first_token(now - self.start),
            Some(last) => app.metrics.inter_token(now - last, tokens.saturating_sub(self.tokens)),
        }
        self.tokens = tokens;
    }
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Whole {
    pub(crate) text: String,
    pub(crate) logprobs: Vec<TokenLogprobs>,
    pub(crate) summary: Summary,
}

/// Waits for the end of an answer.
pub(crate) async fn collect(app: App, answer: Answer) -> Result<Whole, ApiError> {
    let (mut text, mut logprobs) = (String::new(), Vec::new());
    let mut parts = std::pin::pin!(parts(app, answer));
    while let Some(part) = parts.next().await {
        match part {
            Part::Text(piece) => {
                text.push_str(&piece.text);
                logprobs.extend(piece.logprobs);
            }
            Part::End(summary) => return Ok(Whole { text, logprobs, summary }),
            Part::Failed(error) => return Err(error),
        }
    }
    Err(ApiError::internal("the answer has no end"))
}

/// The parts of several answers as they come, each with its index.
pub(crate) fn merged(app: &App, answers: Vec<Answer>) -> impl Stream<Item = (usize, Part)> + Send + 'static {
    let streams = answers.into_iter().enumerate();
    stream::select_all(
        streams.map(|(index, answer)| parts(app.clone(), answer).map(move |part| (index, part)).boxed()),
    )
}

/// One server-sent event.
pub(crate) fn event(name: Option<&str>, data: &impl Serialize) -> Event {
    // A value of our own making always serializes.
    let event = Event::default().data(serde_json::to_string(data).unwrap_or_default());
    match name {
        Some(name) => event.event(name),
        None => event,
    }
}

/// A response of server-sent events, with comments while nothing else comes.
pub(crate) fn sse(events: impl Stream<Item = Event> + Send + 'static) -> Response {
    let mut response =
        Sse::new(events.map(Ok::<_, Infallible>)).keep_alive(KeepAlive::default()).into_response();
    // Proxies such as nginx otherwise collect the events.
    response.headers_mut().insert("x-accel-buffering", axum::http::HeaderValue::from_static("no"));
    response
}
