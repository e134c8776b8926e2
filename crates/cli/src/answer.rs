//! One prompt answered: tokens in, text out as it comes.

use upcycle::{AnyDecoder, Config, Progress, PromptError, PromptStyle, Text};
use upcycle_core::{
    DecodeError, Drafter, FinishReason, Footprint, Reliability, Request, Session, Stats, TokenId,
};
use upcycle_text::StopStrings;

use crate::failure::Failure;
use crate::interrupt;
use crate::pieces::{Origins, Piece};
use crate::progress::Bar;

/// Prompts of more tokens than this get a progress bar.
const LONG_PROMPT: usize = 512;

/// The answer to a prompt.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The text as shown: without end tokens and stop strings.
    pub(crate) text: String,
    /// What the model emitted, end token included.
    pub(crate) tokens: Vec<TokenId>,
    pub(crate) prompt_tokens: usize,
    pub(crate) finish: FinishReason,
    pub(crate) stats: Stats,
    /// The drafter's tables after the answer.
    pub(crate) footprint: Footprint,
    /// The drafter's sources, where it has several.
    pub(crate) sources: Vec<&'static str>,
    /// What chose the sizes of the drafts, where they were chosen.
    pub(crate) budget: Option<Chosen>,
}

/// How the sizes of drafts were chosen, over all that the decoder answered.
#[derive(Debug)]
pub(crate) struct Chosen {
    /// The share of passes that were run to learn what they cost.
    pub(crate) trials: f64,
    /// How well the chances of nodes were foretold, by tenths.
    pub(crate) reliability: [Reliability; 10],
}

impl Answer {
    /// An error if it was cut off by Ctrl-C.
    pub(crate) fn check_interrupt(&self) -> Result<(), Failure> {
        if self.finish == FinishReason::Cancelled { Err(Failure::Interrupted) } else { Ok(()) }
    }
}

/// What stays the same from prompt to prompt.
#[derive(Debug)]
pub(crate) struct Speaker<'a> {
    config: &'a Config,
    text: &'a Text,
    stop: StopStrings,
}

impl<'a> Speaker<'a> {
    pub(crate) fn new(config: &'a Config, text: &'a Text) -> Result<Self, Failure> {
        let stop = text.stop_strings(config.decode()).map_err(Failure::usage)?;
        Ok(Self { config, text, stop })
    }

    /// The tokens of a prompt.
    pub(crate) fn encode(&self, prompt: &str, style: PromptStyle) -> Result<Vec<TokenId>, PromptError> {
        self.text.encode(prompt, style)
    }

    /// Answers `prompt`; `show` gets the text as it comes. Ctrl-C ends the answer after the step at hand, with
    /// [`FinishReason::Cancelled`].
    pub(crate) fn answer(
        &self,
        decoder: &mut AnyDecoder,
        prompt: &[TokenId],
        show: &mut dyn FnMut(&str) -> Result<(), Failure>,
    ) -> Result<Answer, Failure> {
        let mut session = decoder.open(prompt, self.request(0)).map_err(failure)?;
        let answered = self.drive(decoder, &mut session, &mut |piece| show(piece.text));
        decoder.close(session);
        answered
    }

    /// What to decode after a prompt; where tokens are drawn by chance, each `stream` of a seed draws others.
    pub(crate) fn request(&self, stream: u32) -> Request {
        let request = self.text.request(self.config.decode(), &self.stop);
        Request { sampling: request.sampling.with_stream(stream), ..request }
    }

    /// Answers the prompt that `session` was opened on or goes on with.
    pub(crate) fn drive(
        &self,
        decoder: &mut AnyDecoder,
        session: &mut Session,
        show: &mut dyn FnMut(Piece<'_>) -> Result<(), Failure>,
    ) -> Result<Answer, Failure> {
        let mut detokenizer = self.text.tokenizer.detokenizer();
        let mut filter = self.stop.filter();
        let mut origins = Origins::default();
        let mut text = String::new();
        let total = session.prompt_len();
        let mut bar = (total - session.prefilled() > LONG_PROMPT).then(|| Bar::new("reading the prompt"));
        while session.finish_reason().is_none() {
            if interrupt::requested() {
                session.cancel();
                break;
            }
            decoder.step_one(session).map_err(failure)?;
            // The last token drawn is the model's own; those before it were drafted.
            let drafted = session.accepted_path().sampled.len().saturating_sub(1);
            for (index, &token) in session.new_tokens().iter().enumerate() {
                let fresh = detokenizer.push(token).map_err(Failure::failed)?;
                origins.push(fresh.len(), index < drafted);
                let shown = filter.push(fresh);
                bar = None;
                text.push_str(shown);
                origins.pieces(shown, show)?;
            }
            if let Some(bar) = &bar {
                bar.set(Progress { done: session.prefilled() as u64, total: total as u64 });
            }
        }
        let fresh = detokenizer.finish();
        origins.push(fresh.len(), false);
        let mut rest = filter.push(fresh).to_owned();
        rest.push_str(&filter.finish());
        text.push_str(&rest);
        origins.pieces(&rest, show)?;

        let budget = decoder.auto_budget().map(|budget| Chosen {
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

/// A prompt that cannot be decoded is wrong usage, a backend that fails is a failure.
pub(crate) fn failure(error: DecodeError) -> Failure {
    match error {
        DecodeError::EmptyPrompt | DecodeError::PromptTooLong { .. } => Failure::usage(error),
        _ => Failure::failed(error),
    }
}
