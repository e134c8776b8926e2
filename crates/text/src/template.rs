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

use crate::error::TextError;
use crate::strftime::strftime;
use crate::template_source::TemplateSource;
use crate::{hf_compat, jinja_filters, namespaces, python_json, template_depth};

/// The work that one rendering may do: about this many instructions, or 64 times as many bytes.
///
/// A long conversation with an elaborate template takes about ten thousand.
pub const FUEL: u64 = 2_500_000;

/// The stack for compiling and rendering a template, in bytes. Only the used part takes memory.
const STACK_BYTES: usize = 512 << 20;

/// The variables that come from the conversation and the tokenizer. No [own variable](ChatTemplate::with_variables) can have one of
/// these names.
pub const RESERVED: [&str; 6] =
    ["messages", "add_generation_prompt", "bos_token", "eos_token", "raise_exception", "strftime_now"];

/// The name of the template in its environment. Without an extension, so that minijinja does not escape for HTML.
const NAME: &str = "chat_template";

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// `system`, `user`, `assistant`, or another role that the template knows.
    pub role: String,
    /// The text.
    pub content: String,
}

impl Message {
    /// A message with any role.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into() }
    }

    /// A system message: instructions from the operator.
    pub fn system(content: impl Into<String>) -> Self {
        Self::new("system", content)
    }

    /// A message from the user.
    pub fn user(content: impl Into<String>) -> Self {
        Self::new("user", content)
    }

    /// An earlier answer of the model.
    pub fn assistant(content: impl Into<String>) -> Self {
        Self::new("assistant", content)
    }

    fn to_value(&self) -> Value {
        context! { role => self.role.as_str(), content => self.content.as_str() }
    }
}

/// The special tokens that templates call `bos_token` and `eos_token`; undefined in the template if `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TemplateTokens {
    /// The token that begins a text.
    pub bos: Option<String>,
    /// The token that ends a text.
    pub eos: Option<String>,
}

/// A model's Jinja template, which turns messages into its prompt format.
///
/// The environment is that of Hugging Face's `apply_chat_template`:
/// - variables: `messages`, `add_generation_prompt`, `bos_token`, `eos_token`, and `tools` and `documents`, which are none unless
///   [given](Self::with_variables);
/// - functions and filters: `raise_exception`, `strftime_now` (in UTC), `tojson`, Jinja's own, and Python's methods of strings,
///   lists and dicts;
/// - syntax: `break`, `continue`, `generation` blocks, `trim_blocks` and `lstrip_blocks`. Line ends of any kind become `\n`.
///
/// Templates come with the model and are not trusted. They see nothing else, and [`FUEL`] bounds their time and memory.
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
    source: TemplateSource,
    tokens: TemplateTokens,
    variables: BTreeMap<String, Value>,
}

impl ChatTemplate {
    /// Compiles a template.
    ///
    /// # Errors
    /// [`TextError::TemplateSyntax`].
    pub fn new(source: impl Into<String>, tokens: &TemplateTokens) -> Result<Self, TextError> {
        Self::compile(TemplateSource::from(source.into()), tokens)
    }

    fn compile(source: TemplateSource, tokens: &TemplateTokens) -> Result<Self, TextError> {
        let environment = environment(&source.default)?;
        Ok(Self { environment, source, tokens: tokens.clone(), variables: BTreeMap::new() })
    }

    /// The same template with these variables, which replace earlier ones. They correspond to the extra arguments of
    /// `apply_chat_template`, such as `enable_thinking` of Qwen 3. The operator is trusted: names of special tokens in variables
    /// are parsed as those tokens. With `tools`, a model's template named `tool_use` replaces its default one, as there.
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
    /// [`TextError::ReservedVariable`] for a name of [`RESERVED`]; [`TextError::TemplateSyntax`] for the template `tool_use`.
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
        let has_tools = self.variables.get("tools").is_some_and(|tools| !tools.is_none());
        let source = self.source.tool_use.as_ref().filter(|_| has_tools).unwrap_or(&self.source.default);
        if self.source.tool_use.is_some() {
            self.environment = environment(source)?;
        }
        Ok(self)
    }

    /// Compiles the template in a GGUF file (`tokenizer.chat_template`). `None` if the file has none.
    ///
    /// # Errors
    /// [`TextError::TemplateSyntax`], or a key has the wrong type.
    pub fn from_gguf(gguf: &Gguf, tokens: &TemplateTokens) -> Result<Option<Self>, TextError> {
        let source = TemplateSource::from_gguf(gguf)?;
        source.map(|source| Self::compile(source, tokens)).transpose()
    }

    /// The source of the template in a GGUF file, which need not compile. `None` if the file has none.
    ///
    /// # Errors
    /// A key has the wrong type.
    pub fn source_in_gguf(gguf: &Gguf) -> Result<Option<String>, TextError> {
        Ok(TemplateSource::from_gguf(gguf)?.map(|source| source.default))
    }

    /// Compiles the template in a file: Jinja, or JSON with a `chat_template`, such as `tokenizer_config.json`. Where that is a
    /// list of named templates, the one named `default`.
    ///
    /// # Errors
    /// The file cannot be read, is JSON without a template, or [`TextError::TemplateSyntax`].
    pub fn from_file(path: impl AsRef<Path>, tokens: &TemplateTokens) -> Result<Self, TextError> {
        Self::compile(TemplateSource::from_file(path.as_ref())?, tokens)
    }

    /// Compiles the template in a Hugging Face folder: `chat_template.jinja`, or else the one in `tokenizer_config.json` or
    /// `chat_template.json`. `None` if the folder has none.
    ///
    /// # Errors
    /// As [`from_file`](Self::from_file).
    pub fn from_folder(folder: impl AsRef<Path>, tokens: &TemplateTokens) -> Result<Option<Self>, TextError> {
        let source = TemplateSource::from_folder(folder.as_ref())?;
        source.map(|source| Self::compile(source, tokens)).transpose()
    }

    /// Renders a conversation. With `add_generation_prompt` the text ends with the beginning of the assistant's answer.
    ///
    /// The text does not show which special tokens a user typed. To get tokens, use
    /// [`Tokenizer::encode_conversation`](crate::Tokenizer::encode_conversation), which does not parse those.
    ///
    /// # Errors
    /// The template refuses the messages, runs out of [`FUEL`] or fails.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String, TextError> {
        self.render_at(messages, add_generation_prompt, SystemTime::now())
    }

    /// As [`render`](Self::render), with a fixed time for `strftime_now`: for reproducible prompts.
    ///
    /// # Errors
    /// As [`render`](Self::render).
    pub fn render_at(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
        now: SystemTime,
    ) -> Result<String, TextError> {
        // Fuel bounds how deep values nest, and minijinja handles them recursively: the stack must hold the deepest.
        on_a_large_stack(|| self.render_on_this_stack(messages, add_generation_prompt, now))?
    }

    fn render_on_this_stack(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
        now: SystemTime,
    ) -> Result<String, TextError> {
        let strftime_now = Value::from_function(move |format: String| {
            strftime(now, &format).map_err(|reason| Error::new(ErrorKind::InvalidOperation, reason))
        });
        let text = |token: &Option<String>| token.as_ref().map_or(Value::UNDEFINED, Value::from);
        let template = self.environment.get_template(NAME).map_err(failed)?;
        let defaults = ["tools", "documents"].map(|name| (name, Value::from(())));
        let given = self.variables.iter().map(|(name, value)| (name.as_str(), value.clone()));
        let own = Value::from_pairs(defaults.into_iter().chain(given));
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

    /// The source of the (default) template.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source.default
    }
}

impl fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChatTemplate")
            .field("source", &self.source.default)
            .field("tokens", &self.tokens)
            .field("variables", &self.variables)
            .finish_non_exhaustive()
    }
}

/// An environment with this template, compiled.
fn environment(source: &str) -> Result<Environment<'static>, TextError> {
    let syntax = |error: Error| TextError::TemplateSyntax { reason: describe(&error) };
    let mut environment = Environment::new();
    let blocks = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().map_err(syntax)?;
    environment.set_syntax(blocks.clone());
    environment.set_fuel(Some(FUEL));
    jinja_filters::add_to(&mut environment);
    namespaces::add_to(&mut environment);
    environment.add_filter("tojson", python_json::tojson);
    environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, "raise_exception").with_source(Refusal(message)))
    });
    let plain = hf_compat::replace_line_ends(source);
    let plain = hf_compat::replace_generation_blocks(&plain);
    template_depth::check(&plain, blocks.clone()).map_err(syntax)?;
    let plain = namespaces::rewrite(&plain, blocks).map_err(syntax)?;
    on_a_large_stack(|| environment.add_template_owned(NAME, plain))?.map_err(syntax)?;
    Ok(environment)
}

/// Runs `work` on a thread with a stack of [`STACK_BYTES`], for the recursion in minijinja.
fn on_a_large_stack<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, TextError> {
    thread::scope(|scope| {
        let worker = thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, work);
        match worker.map_err(|source| TextError::NoThread { source })?.join() {
            Ok(done) => Ok(done),
            Err(panic) => panic::resume_unwind(panic),
        }
    })
}

/// The message that a template passed to `raise_exception`.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refusal(String);

/// The typed error for a failed rendering.
#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
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

/// The error in one line.
fn describe(error: &Error) -> String {
    let what = error
        .detail()
        .map_or_else(|| error.kind().to_string(), |detail| format!("{}: {detail}", error.kind()));
    error.line().map_or_else(|| what.clone(), |line| format!("{what} (line {line})"))
}
