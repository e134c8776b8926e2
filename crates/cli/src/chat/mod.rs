//! `upcycle chat`: a conversation whose KV cache is kept from turn to turn.

mod command;
mod conversation;
mod input;
mod screen;

use upcycle::{AnyDecoder, Config, CostCache, Layers, PromptError, Registry, Text};
use upcycle_core::{DecodeError, FinishReason, Session};

use crate::answer::{Answer, Speaker};
use crate::args::Chat;
use crate::failure::{Failure, chain};
use crate::output::Output;
use crate::prompts::eprintln_quiet;
use crate::run::{keep, load};
use crate::target::Target;
use crate::{config, interrupt, report};

use command::{Command, HELP, Line};
use conversation::{Conversation, Turn};
use input::{Input, Typed};
use screen::Screen;

pub(crate) fn chat(arguments: Chat, output: &mut Output) -> Result<(), Failure> {
    let registry = Registry::builtin();
    let layers = config::layers(&arguments.settings)?;
    let config = layers.load(&registry.names())?;
    config::start_log(config.log_level());
    let mut conversation = match &arguments.load {
        Some(path) => Conversation::load(path).map_err(Failure::usage)?,
        None => Conversation::default(),
    };
    if let Some(system) = arguments.system {
        conversation.system = Some(system);
    }

    let engine = load(&config, &registry)?;
    let (decoder, text) =
        engine.into_decoder(config.drafter(), &CostCache::of_user()).map_err(Failure::failed)?;
    if text.template.is_none() {
        return Err(Failure::usage(PromptError::NoTemplate));
    }
    let mut input = Input::new()?;
    interrupt::listen_to_all()?;
    let mut room = TreeLimits {
        registry,
        layers,
        config,
        text,
        decoder,
        session: None,
        conversation,
        last: None,
        tries: 0,
        stats: arguments.stats,
        screen: Screen::new(output, arguments.show_drafts),
    };
    let left = room.talk(&mut input);
    input.keep();
    // What was learned is kept however the conversation ended.
    let kept = keep(&room.decoder, &room.config, &room.text);
    left.and(kept)
}

/// The conversation and all that it needs.
struct TreeLimits<'a> {
    registry: Registry,
    layers: Layers,
    config: Config,
    text: Text,
    decoder: AnyDecoder,
    /// Opened by the first message.
    session: Option<Session>,
    conversation: Conversation,
    last: Option<Answer>,
    /// How often the last message was answered again.
    tries: u32,
    stats: bool,
    screen: Screen<'a>,
}

/// Why a line led to nothing: the conversation is as it was.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("nothing has been said that could be answered again")]
    NothingToRetry,
    #[error("nothing has been answered yet")]
    NothingAnswered,
    #[error(
        "the conversation has {len} tokens and the context holds {max}: begin a new one with /reset, or say less"
    )]
    ContextFull { len: usize, max: usize },
    #[error(
        "`{key}` cannot be set while the model is loaded; keys of [decode] can, such as temperature or max_tokens, and \
         template_variables.NAME"
    )]
    Fixed { key: String },
}

/// What to do after a line.
enum Next {
    Stay,
    Leave,
}

impl TreeLimits<'_> {
    /// Takes line after line until the person leaves.
    fn talk(&mut self, input: &mut Input) -> Result<(), Failure> {
        if input.is_terminal() {
            eprintln_quiet("/help lists what can be done besides talking; Ctrl-D leaves");
        }
        loop {
            // One that came between answers, or during the last one's end, is for no answer to come.
            interrupt::take();
            let typed = match input.next()? {
                Typed::Text(text) => text,
                Typed::Interrupt => {
                    eprintln_quiet("Ctrl-C ends an answer; Ctrl-D or /quit leaves");
                    continue;
                }
                Typed::End => return Ok(()),
            };
            match self.line(&typed) {
                Ok(Next::Stay) => {}
                Ok(Next::Leave) => return Ok(()),
                // A person can put it right; a script has to know.
                Err(Failure::Usage(error)) if input.is_terminal() => {
                    eprintln_quiet(chain(&*error).trim_end());
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    fn line(&mut self, line: &str) -> Result<Next, Failure> {
        let command = match Line::parse(line).map_err(Failure::usage)? {
            Line::Empty => return Ok(Next::Stay),
            Line::Say(message) => {
                self.tries = 0;
                self.answer(message)?;
                return Ok(Next::Stay);
            }
            Line::Command(command) => command,
        };
        match command {
            Command::ShowSystem => {
                let system = self.conversation.system.clone();
                self.screen.say(system.as_deref().unwrap_or("no instructions; /system TEXT sets them"))?;
            }
            Command::System(system) => self.conversation.system = system,
            Command::Reset => {
                self.conversation.turns.clear();
                self.last = None;
            }
            Command::Retry => self.retry()?,
            Command::Save(path) => {
                let target = Target::new("/save", path).map_err(Failure::usage)?;
                let json = self.conversation.to_json().map_err(Failure::failed)?;
                target.write(&json).map_err(Failure::usage)?;
            }
            Command::Load(path) => {
                self.conversation = Conversation::load(&path).map_err(Failure::usage)?;
                self.last = None;
            }
            Command::Stats => {
                let last = self.last.as_ref().ok_or_else(|| Failure::usage(Refusal::NothingAnswered))?;
                let report = self.report(last);
                self.screen.say(report.trim_end())?;
            }
            Command::ShowSettings => {
                let toml = self.config.to_toml().map_err(Failure::failed)?;
                let decode = toml.split("\n\n").find(|section| section.starts_with("[decode]"));
                self.screen.say(decode.unwrap_or(&toml).trim_end())?;
            }
            Command::Set { key, value } => self.set(&key, &value)?,
            Command::Help => self.screen.say(HELP)?,
            Command::Quit => return Ok(Next::Leave),
        }
        Ok(Next::Stay)
    }

    /// Sets a key of `[decode]` or a variable of the template, by its short or its whole name.
    fn set(&mut self, key: &str, value: &str) -> Result<(), Failure> {
        let short = key.strip_prefix("decode.").unwrap_or(key);
        let whole = match key.strip_prefix("model.").unwrap_or(key) {
            variable if variable.starts_with("template_variables.") => format!("model.{variable}"),
            _ if short.contains('.') => return Err(Failure::usage(Refusal::Fixed { key: key.to_owned() })),
            _ => format!("decode.{short}"),
        };
        let mut layers = self.layers.clone();
        layers.assignment("/set", &format!("{whole}={value}"))?;
        let config = layers.load(&self.registry.names())?;
        self.text.set_template_variables(&config).map_err(Failure::failed)?;
        (self.config, self.layers) = (config, layers);
        Ok(())
    }

    /// Answers the last message again.
    fn retry(&mut self) -> Result<(), Failure> {
        let turn = self.conversation.turns.pop().ok_or_else(|| Failure::usage(Refusal::NothingToRetry))?;
        self.tries += 1;
        let said = turn.user.clone();
        let before = self.conversation.turns.len();
        let answered = self.answer(said);
        if self.conversation.turns.len() == before {
            // No answer: the old one stays.
            self.conversation.turns.push(turn);
        }
        answered
    }

    /// Answers a message, which is part of the conversation from then on; on an error nothing has changed.
    fn answer(&mut self, message: String) -> Result<(), Failure> {
        let prompt =
            self.text.encode_conversation(&self.conversation.messages(&message)).map_err(Failure::usage)?;
        let speaker = Speaker::new(&self.config, &self.text)?;
        let request = speaker.request(self.tries);
        let opened = match &mut self.session {
            Some(session) => self.decoder.resume(session, &prompt, request),
            None => self.decoder.open(&prompt, request).map(|session| self.session = Some(session)),
        };
        opened.map_err(|error| match error {
            DecodeError::PromptTooLong { len, max } => Failure::usage(Refusal::ContextFull { len, max }),
            error => crate::answer::failure(error),
        })?;
        let Some(session) = &mut self.session else { return Ok(()) };
        let screen = &mut self.screen;
        let answered = speaker.drive(&mut self.decoder, session, &mut |piece| screen.piece(piece));
        let answer = answered.inspect_err(|_| {
            // What is cached may be half of something.
            self.session.take().map(|session| self.decoder.close(session));
        })?;
        self.screen.end()?;
        if self.stats {
            eprintln_quiet(self.report(&answer).trim_end());
        }
        let max_tokens = self.config.decode().max_tokens;
        match answer.finish {
            FinishReason::Cancelled => eprintln_quiet("(ended by Ctrl-C)"),
            FinishReason::MaxTokens => {
                eprintln_quiet(&format!("(ended after {max_tokens} tokens; /set max_tokens N allows more)"));
            }
            FinishReason::ContextFull => eprintln_quiet("(ended: the context is full; /reset begins anew)"),
            FinishReason::EndOfSequence | FinishReason::StopString => {}
        }
        if !(answer.finish == FinishReason::Cancelled && answer.text.is_empty()) {
            self.conversation.turns.push(Turn { user: message, assistant: answer.text.clone() });
        }
        self.last = Some(answer);
        Ok(())
    }

    /// What an answer took, and how much of its prompt was still cached.
    fn report(&self, answer: &Answer) -> String {
        let names = (self.config.backend().name.as_str(), self.config.drafter().name());
        let read = answer.stats.prefilled;
        let cached = answer.prompt_tokens.saturating_sub(read);
        format!("{}cache    {cached} tokens kept, {read} read\n", report::for_people(answer, names))
    }
}
