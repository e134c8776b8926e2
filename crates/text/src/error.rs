use std::path::PathBuf;

use upcycle_checkpoint::gguf::GgufError;

/// Why text could not become tokens, tokens could not become text, or a template could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    /// Messages hold the names of special tokens, and every character of private use that could stand for one.
    #[error(
        "the messages hold the names of {names} special tokens and use up the characters of private use that are to stand \
         for them; leave out one or the other"
    )]
    Veil {
        /// How many names.
        names: usize,
    },
    /// The GGUF file lacks what a tokenizer or template needs, or holds it in another type.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// A file could not be read.
    #[error("cannot read {path}: {source}; check that the path is right and readable", path = path.display())]
    Read {
        /// The path that was tried.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A JSON file is not what it should be.
    #[error("{path}: {reason}", path = path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What was expected and found.
        reason: String,
    },
    /// The kind of tokenizer is not one that is read.
    #[error(
        "tokenizers of kind `{found}` are not read; expected {known}; \
         use a model of a family with a byte-level BPE vocabulary (GPT-2, Llama 3, Qwen, SmolLM, ...)"
    )]
    UnsupportedKind {
        /// The kind in the file.
        found: String,
        /// The kinds that are read.
        known: &'static str,
    },
    /// The rule that splits text before BPE is not in the table.
    #[error("pre-tokenizer `{found}` (metadata key `tokenizer.ggml.pre`) is not known; known are: {known}")]
    UnknownPreTokenizer {
        /// The name in the file.
        found: String,
        /// The names that are known.
        known: String,
    },
    /// Two arrays of the vocabulary differ in length.
    #[error("metadata key `{key}` has {found} entries; expected {expected}, one for each token")]
    LengthMismatch {
        /// The metadata key.
        key: &'static str,
        /// The number of tokens.
        expected: usize,
        /// The number of entries.
        found: usize,
    },
    /// The vocabulary is empty or larger than any that is sensible.
    #[error("expected a vocabulary of 1 to {limit} tokens, found {found}")]
    VocabularySize {
        /// The number of tokens.
        found: u64,
        /// The most that are read.
        limit: u64,
    },
    /// A token stands twice in the vocabulary.
    #[error("the vocabulary holds `{token}` twice, as ids {first} and {second}; expected each token once")]
    DuplicateToken {
        /// The token's text.
        token: String,
        /// The lower id.
        first: u32,
        /// The higher id.
        second: u32,
    },
    /// A token has a type number that GGUF does not define.
    #[error("token {id} has type {found} (metadata key `tokenizer.ggml.token_type`); expected 1 to 6")]
    UnknownTokenType {
        /// The token's id.
        id: u32,
        /// The number in the file.
        found: i32,
    },
    /// A BPE merge is not a pair of tokens whose concatenation is a token.
    #[error("merge {index} is `{merge}`; expected two tokens of the vocabulary that join to a third")]
    InvalidMerge {
        /// The position in the list of merges, from 0.
        index: usize,
        /// The merge.
        merge: String,
    },
    /// A special token's id lies outside the vocabulary.
    #[error("metadata key `{key}` names token {found}; expected an id below {vocab_size}")]
    SpecialOutOfVocabulary {
        /// The metadata key.
        key: &'static str,
        /// The id in the file.
        found: u64,
        /// The size of the vocabulary.
        vocab_size: usize,
    },
    /// The tokenizers library refused the vocabulary or the text.
    #[error("the tokenizer failed: {reason}")]
    Tokenizer {
        /// What the library said.
        reason: String,
    },
    /// The vocabulary has no token for a byte of the text.
    #[error(
        "the vocabulary has no token for {byte:#04x}, part of {piece:?}; remove that character from the text"
    )]
    Unencodable {
        /// The byte without a token.
        byte: u8,
        /// The word it stands in.
        piece: String,
    },
    /// A run of whitespace is longer than the splitting rules can take.
    #[error("{found} whitespace characters in a row; expected at most {limit}: shorten the run")]
    WhitespaceRun {
        /// How many there are.
        found: usize,
        /// The most that are taken.
        limit: usize,
    },
    /// A token id lies outside the vocabulary.
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
    /// The chat template is not valid Jinja.
    #[error("the chat template cannot be compiled: {reason}")]
    TemplateSyntax {
        /// What is wrong, with the line.
        reason: String,
    },
    /// The chat template refused the messages with `raise_exception`.
    #[error("the chat template refused these messages: {message}")]
    TemplateRefused {
        /// The template's own words.
        message: String,
    },
    /// A variable that the template gets from elsewhere.
    #[error("a template's variable cannot be called `{name}`: the conversation and the tokenizer give it")]
    ReservedVariable {
        /// The variable.
        name: String,
    },
    /// The system gives no thread to render the chat template on.
    #[error(
        "the chat template cannot be rendered: there is no thread for it; end other programs, or raise the limit"
    )]
    NoThread {
        /// What the system said.
        source: std::io::Error,
    },
    /// The chat template ran too long.
    #[error(
        "the chat template was stopped after {fuel} units of work; it is endless, or the messages are far too long"
    )]
    TemplateOutOfFuel {
        /// How much work it was allowed.
        fuel: u64,
    },
    /// The chat template failed while it ran.
    #[error("the chat template failed: {reason}")]
    TemplateFailed {
        /// What went wrong, with the line.
        reason: String,
    },
}
