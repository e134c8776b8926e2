use std::path::PathBuf;

use upcycle_checkpoint::gguf::GgufError;

/// Why a tokenizer, chat template or stop string cannot be built or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    /// The messages contain special tokens' names and too many private-use characters to escape them.
    #[error(
        "the messages contain the names of {names} special tokens and too many of the private-use characters that would \
         replace them; remove the names or those characters"
    )]
    NoPlaceholder {
        /// The number of names.
        names: usize,
    },
    /// The GGUF file lacks a metadata key that a tokenizer or template needs, or the key has the wrong type.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// A file could not be read.
    #[error("cannot read {path}: {source}; check that the path is right and readable", path = path.display())]
    Read {
        /// The path that was tried.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// A JSON file is invalid.
    #[error("{path}: {reason}", path = path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// The problem: what was expected and found.
        reason: String,
    },
    /// The kind of tokenizer is not supported.
    #[error(
        "tokenizers of kind `{found}` are not supported; expected {known}; \
         use a model of a family with a byte-level BPE vocabulary (GPT-2, Llama 3, Qwen, SmolLM, ...)"
    )]
    UnsupportedKind {
        /// The kind in the file.
        found: String,
        /// The supported kinds.
        known: &'static str,
    },
    /// The rule that splits text before BPE is unknown.
    #[error("unknown pre-tokenizer `{found}` (metadata key `tokenizer.ggml.pre`); expected one of: {known}")]
    UnknownPreTokenizer {
        /// The name in the file.
        found: String,
        /// The known names.
        known: String,
    },
    /// An array of the vocabulary is too short.
    #[error("metadata key `{key}` has {found} entries; expected at least {expected}, one for each token")]
    LengthMismatch {
        /// The metadata key.
        key: &'static str,
        /// The number of tokens.
        expected: usize,
        /// The number of entries.
        found: usize,
    },
    /// The vocabulary is empty or too large.
    #[error("expected a vocabulary of 1 to {limit} tokens, found {found}")]
    VocabularySize {
        /// The number of tokens.
        found: u64,
        /// The limit.
        limit: u64,
    },
    /// A token occurs twice in the vocabulary.
    #[error("the vocabulary contains `{token}` twice, as ids {first} and {second}; expected each token once")]
    DuplicateToken {
        /// The token's text.
        token: String,
        /// The lower id.
        first: u32,
        /// The higher id.
        second: u32,
    },
    /// A BPE merge is not a pair of tokens whose concatenation is a token.
    #[error("merge {index} is `{merge}`; expected two tokens of the vocabulary that join to a third")]
    InvalidMerge {
        /// The position in the list of merges, from 0.
        index: usize,
        /// The merge.
        merge: String,
    },
    /// The tokenizers library rejected the vocabulary or the text.
    #[error("the tokenizer failed: {reason}")]
    Tokenizer {
        /// The library's message.
        reason: String,
    },
    /// The vocabulary has no token for a byte of the text.
    #[error(
        "the vocabulary has no token for {byte:#04x}, part of {piece:?}; remove that character from the text"
    )]
    Unencodable {
        /// The byte without a token.
        byte: u8,
        /// The word that contains it.
        piece: String,
    },
    /// A run of whitespace is too long for the splitting rules.
    #[error("{found} whitespace characters in a row; expected at most {limit}: shorten the run")]
    WhitespaceRun {
        /// The length of the run, in characters.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// A token id is outside the vocabulary.
    #[error("token {id} is not in the vocabulary of {vocab_size} tokens; is this the model's own tokenizer?")]
    UnknownToken {
        /// The id.
        id: u32,
        /// The size of the vocabulary.
        vocab_size: usize,
    },
    /// A stop string is empty.
    #[error("stop string {index} is empty; it would stop before the first token: remove it or give it text")]
    EmptyStopString {
        /// Its position in the list, from 0.
        index: usize,
    },
    /// A stop string holds the replacement character.
    #[error(
        "stop string {index} ({stop:?}) holds U+FFFD, which stands for bytes that are not text: remove that character"
    )]
    StopWithReplacement {
        /// Its position in the list, from 0.
        index: usize,
        /// The string.
        stop: String,
    },
    /// A stop string holds the name of a special token among other text.
    #[error(
        "stop string {index} ({stop:?}) holds the name of the special token `{token}` among other text, which the model's output \
         never spells: make `{token}` a stop string of its own"
    )]
    StopAroundToken {
        /// Its position in the list, from 0.
        index: usize,
        /// The string.
        stop: String,
        /// The token.
        token: String,
    },
    /// The chat template is not valid Jinja.
    #[error("the chat template cannot be compiled: {reason}")]
    TemplateSyntax {
        /// The problem, with the line.
        reason: String,
    },
    /// Several chat templates, none of which is the default.
    #[error("{reason}; name one with `model.template`")]
    TemplateChoice {
        /// The problem, with the names found.
        reason: String,
    },
    /// The chat template refused the messages with `raise_exception`.
    #[error("the chat template refused these messages: {message}")]
    TemplateRefused {
        /// The template's message.
        message: String,
    },
    /// A variable has a reserved name.
    #[error(
        "the template variable `{name}` comes from the conversation or the tokenizer; choose another name"
    )]
    ReservedVariable {
        /// The variable.
        name: String,
    },
    /// The system cannot start a thread for the chat template.
    #[error(
        "cannot start a thread for the chat template; close other programs, or raise the limit on threads or memory"
    )]
    NoThread {
        /// The system's error.
        source: std::io::Error,
    },
    /// The chat template ran too long.
    #[error(
        "the chat template was stopped after {fuel} units of work; it loops endlessly, or the messages are far too long"
    )]
    TemplateOutOfFuel {
        /// The work allowed.
        fuel: u64,
    },
    /// The chat template failed while it ran.
    #[error("the chat template failed: {reason}")]
    TemplateFailed {
        /// The problem, with the line.
        reason: String,
    },
}

impl TextError {
    /// An error of the tokenizers library.
    #[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
    pub(crate) fn library(error: tokenizers::Error) -> Self {
        Self::Tokenizer { reason: error.to_string() }
    }
}
