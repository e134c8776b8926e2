//! `upcycle chat`: a conversation that keeps its KV cache between turns.

mod command;
mod conversation;
mod input;
mod screen;

use std::path::Path;

use upcycle::{AnyDecoder, Config, ConfigBuilder, Registry, Text};
use upcycle_core::{DecodeError, FinishReason, Session};

use crate::answer::{Answer, Responder};
use crate::args::Chat;
use crate::failure::{Failure, chain};
use crate::input::{STANDARD_INPUT, is_stdio};
use crate::output::{Output, print_status};
use crate::output_file::OutputFile;
use crate::run::{self, Ending, load};
use crate::{config, interrupt, stats};

use command::{Command, HELP, Line};
use conversation::{Conversation, Turn};
use input::{Input, InputEvent};
use screen::Screen;

pub(crate) fn chat(arguments: Chat, registry: &Registry, output: &mut Output) -> Result<(), Failure> {
    let builder = config::builder(&arguments.settings, registry)?;
    let config = builder.build()?;
    config::start_log(&builder, &config, Some(&arguments.settings));
    let mut conversation = match &arguments.load {
        Some(path) => load_conversation("--load", path)?,
        None => Conversation::default(),
    };
    if let Some(system) = arguments.system {
        conversation.system = Some(system);
    }

    let model = load(&config, registry)?;
    interrupt::listen_to_all();
    let (decoder, text) = run::decoder(model, &config, registry)?;
    text.template().map_err(Failure::usage)?;
    let ending = Ending::before_answers(&config, &decoder);
    let mut input = Input::new()?;
    let mut chat = ChatSession {
        builder,
        config,
        text,
        decoder,
        session: None,
        conversation,
        last: None,
        retries: 0,
        stats: arguments.stats,
        screen: Screen::new(output, arguments.show_drafts),
    };
    let ended = chat.talk(&mut input);
    // Also after an error: the drafter's tables are worth keeping.
    let saved = ending.after_answers(&chat.decoder, &chat.text);
    ended.and(saved)
}

/// Loads a conversation from a file, or from standard input.
fn load_conversation(reader: &str, path: &Path) -> Result<Conversation, Failure> {
    if is_stdio(path) {
        let bytes = crate::input::bytes(reader, path)?;
        return Conversation::parse(Path::new(STANDARD_INPUT), &bytes).map_err(Failure::usage);
    }
    Conversation::load(path).map_err(Failure::usage)
}

/// A running conversation.
struct ChatSession<'a> {
    builder: ConfigBuilder,
    config: Config,
    text: Text,
    decoder: AnyDecoder,
    /// Opened with the first message.
    session: Option<Session>,
    conversation: Conversation,
    last: Option<Answer>,
    /// How often the last message was retried.
    retries: u32,
    stats: bool,
    screen: Screen<'a>,
}

/// Why a line was refused. The conversation is unchanged.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("there is no message to answer again")]
    NothingToRetry,
    #[error("nothing has been answered yet")]
    NothingAnswered,
    #[error(
        "the conversation has {len} tokens and the context holds {max}; start a new one with /reset or send a shorter \
         message"
    )]
    ContextFull { len: usize, max: usize },
    #[error(
        "`{key}` cannot be changed while the model is loaded; keys of [decode] can, such as temperature or max_tokens, and \
         template_variables.NAME"
    )]
    Fixed { key: String },
}

/// What to do after a line.
enum Next {
    Continue,
    Quit,
}

impl ChatSession<'_> {
    /// Handles lines until the user quits.
    fn talk(&mut self, input: &mut Input) -> Result<(), Failure> {
        if input.is_terminal() {
            print_status("/help lists the commands; Ctrl-D quits");
        }
        loop {
            // A Ctrl-C between answers must not end the next one.
            interrupt::take();
            let typed = match input.next()? {
                _ if interrupt::terminated() => return Err(Failure::Interrupted),
                InputEvent::Message(text) => text,
                InputEvent::Interrupt => {
                    print_status("Ctrl-C ends an answer; Ctrl-D or /quit quits");
                    continue;
                }
                InputEvent::End => return Ok(()),
            };
            match self.line(&typed) {
                Ok(Next::Continue) => {}
                Ok(Next::Quit) => return Ok(()),
                // A user can correct the line; a script must fail.
                Err(Failure::Usage(error)) if input.is_terminal() => {
                    print_status(chain(&*error).trim_end());
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    fn line(&mut self, line: &str) -> Result<Next, Failure> {
        let command = match Line::parse(line).map_err(Failure::usage)? {
            Line::Empty => return Ok(Next::Continue),
            Line::Message(message) => {
                self.retries = 0;
                self.answer(message)?;
                return Ok(Next::Continue);
            }
            Line::Command(command) => command,
        };
        match command {
            Command::ShowSystem => {
                let system = self.conversation.system.clone();
                self.screen.say(system.as_deref().unwrap_or("no system prompt; /system TEXT sets one"))?;
            }
            Command::System(system) => self.conversation.system = system,
            Command::Reset => {
                self.conversation.turns.clear();
                self.last = None;
            }
            Command::Retry => self.retry()?,
            Command::Save(path) => {
                let target = OutputFile::new("/save", path).map_err(Failure::usage)?;
                let json = self.conversation.to_json().map_err(Failure::failed)?;
                // A user can name another file.
                target.write(&json, self.screen.output()).map_err(|failure| match failure {
                    Failure::Failed(error) => Failure::Usage(error),
                    other => other,
                })?;
            }
            Command::Load(path) => {
                self.conversation = load_conversation("/load", &path)?;
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
            Command::Quit => return Ok(Next::Quit),
        }
        Ok(Next::Continue)
    }

    /// Sets a key of `[decode]` or a template variable, by its short or full name.
    fn set(&mut self, key: &str, value: &str) -> Result<(), Failure> {
        let short = key.strip_prefix("decode.").unwrap_or(key);
        let full = match key.strip_prefix("model.").unwrap_or(key) {
            variable if variable.starts_with("template_variables.") => format!("model.{variable}"),
            _ if short.contains('.') => return Err(Failure::usage(Refusal::Fixed { key: key.to_owned() })),
            _ => format!("decode.{short}"),
        };
        let mut builder = self.builder.clone();
        builder.assignment("/set", &format!("{full}={value}"))?;
        let config = builder.build()?;
        self.text.set_template_variables(&config).map_err(Failure::failed)?;
        (self.config, self.builder) = (config, builder);
        Ok(())
    }

    /// Answers the last message again.
    fn retry(&mut self) -> Result<(), Failure> {
        let turn = self.conversation.turns.pop().ok_or_else(|| Failure::usage(Refusal::NothingToRetry))?;
        self.retries += 1;
        let said = turn.user.clone();
        let before = self.conversation.turns.len();
        let answered = self.answer(said);
        if self.conversation.turns.len() == before {
            // No new answer: keep the old one.
            self.conversation.turns.push(turn);
        }
        answered
    }

    /// Answers a message and adds both to the conversation. An error leaves the conversation unchanged.
    fn answer(&mut self, message: String) -> Result<(), Failure> {
        let prompt =
            self.text.encode_conversation(&self.conversation.messages(&message)).map_err(Failure::usage)?;
        let responder = Responder::new(&self.config, &self.text)?;
        let request = responder.request(self.retries);
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
        let answered = responder.decode(&mut self.decoder, session, &mut |piece| screen.piece(piece));
        let answer = answered.inspect_err(|_| {
            // The cache may hold an incomplete step.
            self.session.take().map(|session| self.decoder.close(session));
        })?;
        self.screen.end()?;
        if self.stats {
            print_status(self.report(&answer).trim_end());
        }
        let max_tokens = self.config.decode().max_tokens;
        match answer.finish {
            FinishReason::Cancelled if interrupt::terminated() => print_status("(stopped by a signal)"),
            FinishReason::Cancelled => print_status("(stopped by Ctrl-C)"),
            FinishReason::MaxTokens => {
                print_status(&format!("(stopped after {max_tokens} tokens; /set max_tokens N allows more)"));
            }
            FinishReason::ContextFull => {
                print_status("(stopped: the context is full; /reset starts a new conversation)");
            }
            FinishReason::EndOfSequence | FinishReason::StopString => {}
        }
        if !(answer.finish == FinishReason::Cancelled && answer.text.is_empty()) {
            self.conversation.turns.push(Turn { user: message, assistant: answer.text.clone() });
        }
        self.last = Some(answer);
        Ok(())
    }

    /// Statistics of an answer, and how much of its prompt was cached.
    fn report(&self, answer: &Answer) -> String {
        let names = (self.config.backend().name.as_str(), self.config.drafter().name());
        let read = answer.stats.prefilled;
        let cached = answer.prompt_tokens.saturating_sub(read);
        format!("{}cache    {cached} tokens reused, {read} read\n", stats::to_text(answer, names))
    }
}
