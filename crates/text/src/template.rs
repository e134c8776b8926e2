use std::collections::BTreeMap;
use std::error::Error as _;
use std::fmt;
use std::path::Path;
use std::time::SystemTime;
use std::{panic, thread};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, Error, ErrorKind, Value, context};
use upcycle_checkpoint::gguf::Gguf;

use crate::{TextError, calendar, depth, dialect, namespaces, python_json};

/// How much work a template may do in one rendering: about this many instructions, or 64 times as many bytes.
///
/// A long conversation through an elaborate template takes some ten thousand.
pub const FUEL: u64 = 2_500_000;

/// The stack that a template is compiled and rendered on, in bytes; only what is used of it is memory.
const STACK: usize = 512 << 20;

/// The names that a template gets from the conversation and the tokenizer, and that no
/// [variable](ChatTemplate::with_variables) can have.
pub const RESERVED: [&str; 6] =
    ["messages", "add_generation_prompt", "bos_token", "eos_token", "raise_exception", "strftime_now"];

/// The name of the only template in its environment; without an ending, so that nothing is escaped for HTML.
const NAME: &str = "chat_template";

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Who speaks: `system`, `user`, `assistant`, or what else the template knows.
    pub role: String,
    /// What is said.
    pub content: String,
}

impl Message {
    /// A message in any role.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into() }
    }

    /// Instructions from the operator.
    pub fn system(content: impl Into<String>) -> Self {
        Self::new("system", content)
    }

    /// A message from the user.
    pub fn user(content: impl Into<String>) -> Self {
        Self::new("user", content)
    }

    /// An answer of the model.
    pub fn assistant(content: impl Into<String>) -> Self {
        Self::new("assistant", content)
    }

    /// What a template sees of the message.
    fn to_value(&self) -> Value {
        context! { role => self.role.as_str(), content => self.content.as_str() }
    }
}

/// The texts of the special tokens that templates call `bos_token` and `eos_token`; undefined there where `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TemplateTokens {
    /// The text of the token that begins a text.
    pub bos: Option<String>,
    /// The text of the token that ends one.
    pub eos: Option<String>,
}

/// A model's own Jinja template, which turns messages into its prompt format.
///
/// Templates see what Hugging Face's `apply_chat_template` gives them: `messages`, `add_generation_prompt`,
/// `bos_token`, `eos_token`, `tools` and `documents` (none, unless they are [given](Self::with_variables)),
/// `raise_exception`, `strftime_now` (in UTC), `tojson`, Python's methods on strings, lists and dicts, `break` and
/// `continue`, the mark `generation`; blocks leave no whitespace (`trim_blocks`, `lstrip_blocks`). A template comes with the model and is not
/// trusted: it sees nothing else, and [`FUEL`] bounds its time and memory. What could come to hold itself is refused: a namespace is
/// used for its attributes, or passed to a macro, and by that name is no value.
///
/// ```
/// use upcycle_text::{ChatTemplate, Message, TemplateTokens};
///
/// let source = "{{ bos_token }}{% for m in messages %}{{ m.role | upper }}: {{ m.content.strip() }}\n{% endfor %}";
/// let tokens = TemplateTokens { bos: Some("<s>".to_owned()), eos: None };
/// let template = ChatTemplate::new(source, &tokens)?;
/// assert_eq!(template.render(&[Message::user(" Hi! ")], true)?, "<s>USER: Hi!\n");
/// # Ok::<(), upcycle_text::TextError>(())
/// ```
#[derive(Clone)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    source: String,
    tokens: TemplateTokens,
    variables: BTreeMap<String, Value>,
}

impl ChatTemplate {
    /// Compiles a template.
    ///
    /// # Errors
    /// [`TextError::TemplateSyntax`].
    pub fn new(source: impl Into<String>, tokens: &TemplateTokens) -> Result<Self, TextError> {
        let source = source.into();
        let mut environment = Environment::new();
        let syntax = |error: Error| TextError::TemplateSyntax { reason: describe(&error) };
        let blocks = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().map_err(syntax)?;
        environment.set_syntax(blocks.clone());
        environment.set_fuel(Some(FUEL));
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_filter("tojson", python_json::tojson);
        // They indent what lies in each other: work that is the square of the depth, and is not counted.
        environment.remove_filter("pprint");
        environment.remove_global("debug");
        environment.add_test("iterable", dialect::is_iterable);
        environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, "raise_exception").with_source(Refusal(message)))
        });
        let plain = dialect::without_generation_marks(&source);
        depth::check(&plain, blocks.clone()).map_err(syntax)?;
        on_a_large_stack(|| {
            namespaces::check(&plain, NAME, blocks)?;
            environment.add_template_owned(NAME, plain.clone().into_owned())
        })?
        .map_err(syntax)?;
        Ok(Self { environment, source, tokens: tokens.clone(), variables: BTreeMap::new() })
    }

    /// The same template with other variables of its own: what `apply_chat_template` takes as further arguments, such as
    /// `enable_thinking` of Qwen 3. Those from before are gone. They come from whoever runs the model: names of special
    /// tokens in them are those tokens.
    ///
    /// ```
    /// use upcycle_text::{ChatTemplate, Message, TemplateTokens};
    ///
    /// let source = "{{ messages[0].content }}{% if enable_thinking is false %}<think></think>{% endif %}";
    /// let template = ChatTemplate::new(source, &TemplateTokens::default())?;
    /// assert_eq!(template.render(&[Message::user("Hi")], true)?, "Hi");
    /// let template = template.with_variables([("enable_thinking".to_owned(), false.into())])?;
    /// assert_eq!(template.render(&[Message::user("Hi")], true)?, "Hi<think></think>");
    /// # Ok::<(), upcycle_text::TextError>(())
    /// ```
    ///
    /// # Errors
    /// [`TextError::ReservedVariable`] for a name of [`RESERVED`].
    pub fn with_variables(
        mut self,
        variables: impl IntoIterator<Item = (String, serde_json::Value)>,
    ) -> Result<Self, TextError> {
        self.variables = variables
            .into_iter()
            .map(|(name, value)| match RESERVED.contains(&&*name) {
                true => Err(TextError::ReservedVariable { name }),
                false => Ok((name, Value::from(Serde(value)))),
            })
            .collect::<Result<_, _>>()?;
        Ok(self)
    }

    /// Compiles the template in a GGUF file (`tokenizer.chat_template`), with the file's own tokens. `None` where it
    /// has none: only the caller can know what to do then.
    ///
    /// # Errors
    /// [`TextError::TemplateSyntax`], or a key of the wrong type.
    pub fn from_gguf(gguf: &Gguf) -> Result<Option<Self>, TextError> {
        let Some(source) = gguf.get_string("tokenizer.chat_template")? else { return Ok(None) };
        let texts = gguf.get_strings("tokenizer.ggml.tokens")?;
        let text = |key| -> Result<Option<String>, TextError> {
            let Some(id) = gguf.get_u32(key)? else { return Ok(None) };
            Ok(texts.and_then(|texts| texts.get(id as usize)).map(str::to_owned))
        };
        let tokens = TemplateTokens {
            bos: text("tokenizer.ggml.bos_token_id")?,
            eos: text("tokenizer.ggml.eos_token_id")?,
        };
        Self::new(source, &tokens).map(Some)
    }

    /// Compiles the template in a file: Jinja, or a `tokenizer_config.json` with a `chat_template`.
    ///
    /// # Errors
    /// The file cannot be read, is JSON without a template, or [`TextError::TemplateSyntax`].
    pub fn from_file(path: impl AsRef<Path>, tokens: &TemplateTokens) -> Result<Self, TextError> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path)
            .map_err(|source| TextError::Read { path: path.to_owned(), source })?;
        if path.extension().is_none_or(|extension| extension != "json") {
            return Self::new(text, tokens);
        }
        let wrong = |reason| TextError::Json { path: path.to_owned(), reason };
        let json: serde_json::Value =
            serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        match json["chat_template"].as_str() {
            Some(source) => Self::new(source, tokens),
            None => {
                Err(wrong("expected the template as a string under `chat_template`, found none".to_owned()))
            }
        }
    }

    /// Compiles the template of a folder as Hugging Face writes them: `chat_template.jinja`, else what a
    /// `tokenizer_config.json` has. `None` where the folder has none.
    ///
    /// # Errors
    /// As [`from_file`](Self::from_file); a folder without a template is no error.
    pub fn from_folder(folder: impl AsRef<Path>, tokens: &TemplateTokens) -> Result<Option<Self>, TextError> {
        let [own, config] =
            ["chat_template.jinja", "tokenizer_config.json"].map(|name| folder.as_ref().join(name));
        if own.exists() {
            return Self::from_file(own, tokens).map(Some);
        }
        if !config.exists() {
            return Ok(None);
        }
        let text = std::fs::read_to_string(&config)
            .map_err(|source| TextError::Read { path: config.clone(), source })?;
        let json: serde_json::Value = serde_json::from_str(&text)
            .map_err(|error| TextError::Json { path: config.clone(), reason: error.to_string() })?;
        match json.get("chat_template") {
            None | Some(serde_json::Value::Null) => Ok(None),
            Some(_) => Self::from_file(config, tokens).map(Some),
        }
    }

    /// Renders a conversation. `add_generation_prompt` ends it with the beginning of the assistant's answer.
    ///
    /// For tokens, [`Tokenizer::encode_conversation`](crate::Tokenizer::encode_conversation) keeps what a user typed apart
    /// from the template's special tokens; here all of it is one text.
    ///
    /// # Errors
    /// The template refuses the messages, runs out of [`FUEL`] or fails.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String, TextError> {
        self.render_at(messages, add_generation_prompt, SystemTime::now())
    }

    /// As [`render`](Self::render), with the time that `strftime_now` tells: for prompts that can be repeated.
    ///
    /// # Errors
    /// As [`render`](Self::render).
    pub fn render_at(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
        now: SystemTime,
    ) -> Result<String, TextError> {
        // Values nest as deep as the fuel allows, and the engine prints, compares and frees them by recursion: on a stack that
        // holds the deepest.
        on_a_large_stack(|| self.render_here(messages, add_generation_prompt, now))?
    }

    fn render_here(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
        now: SystemTime,
    ) -> Result<String, TextError> {
        let strftime_now = Value::from_function(move |format: String| {
            calendar::strftime(now, &format).map_err(|reason| Error::new(ErrorKind::InvalidOperation, reason))
        });
        let text = |token: &Option<String>| token.as_ref().map_or(Value::UNDEFINED, Value::from);
        let template = self.environment.get_template(NAME).map_err(failed)?;
        let none = ["tools", "documents"].map(|name| (name, Value::from(())));
        let told = self.variables.iter().map(|(name, value)| (name.as_str(), value.clone()));
        let own = Value::from_pairs(none.into_iter().chain(told));
        let variables = context! {
            messages => messages.iter().map(Message::to_value).collect::<Vec<Value>>(),
            add_generation_prompt => add_generation_prompt,
            bos_token => text(&self.tokens.bos),
            eos_token => text(&self.tokens.eos),
            strftime_now => strftime_now,
            ..own,
        };
        template.render(variables).map_err(failed)
    }

    /// The template's source.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }
}

impl fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChatTemplate")
            .field("source", &self.source)
            .field("tokens", &self.tokens)
            .field("variables", &self.variables)
            .finish_non_exhaustive()
    }
}

/// Does something on a thread of its own, whose stack has room for what the engine does by recursion.
fn on_a_large_stack<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, TextError> {
    thread::scope(|scope| {
        let worker = thread::Builder::new().stack_size(STACK).spawn_scoped(scope, work);
        match worker.map_err(|source| TextError::NoThread { source })?.join() {
            Ok(done) => Ok(done),
            Err(panic) => panic::resume_unwind(panic),
        }
    })
}

/// What a template gave to `raise_exception`.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refusal(String);

/// Tells apart why a rendering failed.
#[expect(clippy::needless_pass_by_value, reason = "it is handed to map_err")]
fn failed(error: Error) -> TextError {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(Refusal(message)) = inner.downcast_ref() {
            return TextError::TemplateRefused { message: message.clone() };
        }
        cause = inner.source();
    }
    match error.kind() {
        ErrorKind::OutOfFuel => TextError::TemplateOutOfFuel { fuel: FUEL },
        _ => TextError::TemplateFailed { reason: describe(&error) },
    }
}

/// What went wrong, in one line.
fn describe(error: &Error) -> String {
    let what = error
        .detail()
        .map_or_else(|| error.kind().to_string(), |detail| format!("{}: {detail}", error.kind()));
    error.line().map_or_else(|| what.clone(), |line| format!("{what} (line {line})"))
}
