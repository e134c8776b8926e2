//! Answers one prompt and streams its text.

use std::collections::VecDeque;

use upcycle::{AnyDecoder, Config, DraftSpans, Piece, Progress, PromptError, PromptStyle, Text};
use upcycle_core::{
    DecodeError, Drafter, FinishReason, Footprint, Reliability, Request, Session, Stats, TokenId,
};
use upcycle_text::{Message, StopStrings};

use crate::failure::Failure;
use crate::interrupt;
use crate::progress::Bar;

/// Longer prompts get a progress bar.
const LONG_PROMPT: usize = 512;

/// The answer to a prompt.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The text without end tokens and stop strings.
    pub(crate) text: String,
    /// All emitted tokens, including the end token.
    pub(crate) tokens: Vec<TokenId>,
    pub(crate) prompt_tokens: usize,
    pub(crate) finish: FinishReason,
    pub(crate) stats: Stats,
    /// The drafter's tables after the answer.
    pub(crate) footprint: Footprint,
    /// The names of the drafter's sources; empty if it has one.
    pub(crate) sources: Vec<&'static str>,
    /// Statistics of the automatic budget; none with a fixed budget.
    pub(crate) budget: Option<BudgetStats>,
}

/// How the automatic budget did, over everything that the decoder answered.
#[derive(Debug)]
pub(crate) struct BudgetStats {
    /// The share of passes that were run to measure their cost.
    pub(crate) trials: f64,
    /// Predicted and observed acceptance rates of nodes, in ten bins.
    pub(crate) reliability: [Reliability; 10],
}

impl Answer {
    /// An error if a signal ended the answer.
    pub(crate) fn check_interrupt(&self) -> Result<(), Failure> {
        if self.finish == FinishReason::Cancelled { Err(Failure::Interrupted) } else { Ok(()) }
    }
}

/// Answers prompts by one configuration.
#[derive(Debug)]
pub(crate) struct Responder<'a> {
    config: &'a Config,
    text: &'a Text,
    stop: StopStrings,
    system: Option<&'a str>,
}

impl<'a> Responder<'a> {
    pub(crate) fn new(config: &'a Config, text: &'a Text) -> Result<Self, Failure> {
        let stop = text.stop_strings(config.decode()).map_err(Failure::usage)?;
        Ok(Self { config, text, stop, system: None })
    }

    /// Puts a system prompt before each prompt that goes through the chat template.
    pub(crate) fn with_system(self, system: Option<&'a str>) -> Self {
        Self { system, ..self }
    }

    /// Encodes a prompt.
    pub(crate) fn encode(&self, prompt: &str, style: PromptStyle) -> Result<Vec<TokenId>, PromptError> {
        match (self.system, style) {
            (Some(system), PromptStyle::Chat) => {
                self.text.encode_conversation(&[Message::system(system), Message::user(prompt)])
            }
            _ => self.text.encode(prompt, style),
        }
    }

    /// Answers `prompt` and passes text to `show` as it arrives. Ctrl-C ends the answer after the current step with
    /// [`FinishReason::Cancelled`].
    pub(crate) fn answer(
        &self,
        decoder: &mut AnyDecoder,
        prompt: &[TokenId],
        show: &mut dyn FnMut(&str) -> Result<(), Failure>,
    ) -> Result<Answer, Failure> {
        let mut session = decoder.open(prompt, self.request(0)).map_err(failure)?;
        let answered = self.decode(decoder, &mut session, &mut |piece| show(&piece.text));
        decoder.close(session);
        answered
    }

    /// The request for the decoder. With sampling, each sample index of a seed samples other tokens.
    pub(crate) fn request(&self, index: u32) -> Request {
        let request = self.text.request(self.config.decode(), &self.stop);
        Request { sampling: request.sampling.with_sample_index(index), ..request }
    }

    /// Decodes `session` to its end.
    pub(crate) fn decode(
        &self,
        decoder: &mut AnyDecoder,
        session: &mut Session,
        show: &mut dyn FnMut(&Piece) -> Result<(), Failure>,
    ) -> Result<Answer, Failure> {
        let mut detokenizer = self.text.tokenizer.detokenizer();
        let mut filter = self.stop.filter();
        let (mut spans, mut pieces) = (DraftSpans::default(), VecDeque::new());
        let mut text = String::new();
        let total = session.prompt_len();
        let mut bar = (total - session.prefilled() > LONG_PROMPT).then(|| Bar::new("reading the prompt"));
        while session.finish_reason().is_none() {
            if interrupt::requested() {
                session.cancel();
                break;
            }
            decoder.step_one(session).map_err(failure)?;
            // The last sampled token is the bonus token; those before it were drafted.
            let drafted = session.accepted_path().sampled.len().saturating_sub(1);
            for (index, &token) in session.new_tokens().iter().enumerate() {
                let new_text = detokenizer.push(token).map_err(Failure::failed)?;
                spans.push(new_text.len(), index < drafted);
                let shown = filter.push(new_text);
                bar = None;
                text.push_str(shown);
                spans.split(shown, &mut pieces);
                pieces.drain(..).try_for_each(|piece| show(&piece))?;
            }
            if let Some(bar) = &bar {
                bar.set(Progress { done: session.prefilled() as u64, total: total as u64 });
            }
        }
        let new_text = detokenizer.finish();
        spans.push(new_text.len(), false);
        let mut rest = filter.push(new_text).to_owned();
        rest.push_str(&filter.finish());
        text.push_str(&rest);
        spans.split(&rest, &mut pieces);
        pieces.drain(..).try_for_each(|piece| show(&piece))?;

        let budget = decoder.auto_budget().map(|budget| BudgetStats {
            trials: budget.explore_share(),
            reliability: decoder.calibration().reliability(),
        });
        let (footprint, sources) = (decoder.drafter().footprint(), decoder.drafter().sources());
        Ok(Answer {
            text,
            tokens: session.output().to_vec(),
            prompt_tokens: total,
            finish: session.finish_reason().unwrap_or(FinishReason::Cancelled),
            stats: session.stats().clone(),
            footprint,
            sources,
            budget,
        })
    }
}

/// A prompt that cannot be decoded is a usage error; a failing backend is a failure.
pub(crate) fn failure(error: DecodeError) -> Failure {
    match error {
        DecodeError::EmptyPrompt | DecodeError::PromptTooLong { .. } => Failure::usage(error),
        _ => Failure::failed(error),
    }
}
