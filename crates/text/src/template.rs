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
use crate::{hf_compat, json_file, python_json, template_guard};

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
/// - functions and filters: `raise_exception`, `strftime_now` (in UTC), `tojson`, and Python's methods of strings, lists and dicts;
/// - syntax: `break`, `continue`, `generation` blocks, `trim_blocks` and `lstrip_blocks`.
///
/// Templates come with the model and are not trusted. They see nothing else, [`FUEL`] bounds their time and memory, and a template
/// that could build a value containing itself is refused: a namespace may only be used for its attributes or passed to a macro.
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
        // These indent nested values, which takes time quadratic in the depth that fuel does not count.
        environment.remove_filter("pprint");
        environment.remove_global("debug");
        environment.add_test("iterable", hf_compat::is_iterable);
        environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, "raise_exception").with_source(Refusal(message)))
        });
        let plain = hf_compat::replace_generation_blocks(&source);
        template_guard::check_depth(&plain, blocks.clone()).map_err(syntax)?;
        on_a_large_stack(|| {
            template_guard::check_namespaces(&plain, NAME, blocks)?;
            environment.add_template_owned(NAME, plain.clone().into_owned())
        })?
        .map_err(syntax)?;
        Ok(Self { environment, source, tokens: tokens.clone(), variables: BTreeMap::new() })
    }

    /// The same template with these variables, which replace earlier ones. They correspond to the extra arguments of
    /// `apply_chat_template`, such as `enable_thinking` of Qwen 3. The operator is trusted: names of special tokens in variables
    /// are parsed as those tokens.
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

    /// Compiles the template in a GGUF file (`tokenizer.chat_template`), with the file's special tokens. `None` if the file has none.
    ///
    /// # Errors
    /// [`TextError::TemplateSyntax`], or a key has the wrong type.
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
        let json = json_file::parse(path, text.as_bytes())?;
        let source = json["chat_template"].as_str().ok_or_else(|| {
            json_file::invalid(path, "expected the template as a string under `chat_template`, found none")
        })?;
        Self::new(source, tokens)
    }

    /// Compiles the template in a Hugging Face folder: `chat_template.jinja`, or else the one in `tokenizer_config.json`. `None` if
    /// the folder has neither.
    ///
    /// # Errors
    /// As [`from_file`](Self::from_file).
    pub fn from_folder(folder: impl AsRef<Path>, tokens: &TemplateTokens) -> Result<Option<Self>, TextError> {
        let [jinja, config] =
            ["chat_template.jinja", "tokenizer_config.json"].map(|name| folder.as_ref().join(name));
        if jinja.exists() {
            return Self::from_file(jinja, tokens).map(Some);
        }
        let json = json_file::read_if_exists(&config)?.unwrap_or_default();
        if json["chat_template"].is_null() {
            return Ok(None);
        }
        Self::from_file(config, tokens).map(Some)
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
