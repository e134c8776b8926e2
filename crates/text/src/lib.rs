#![forbid(unsafe_code)]
//! Text on the way into a language model and out of it.
//!
//! - [`Tokenizer`]: byte-level BPE, or SentencePiece's, from a GGUF file's metadata or from a `tokenizer.json`, or one that a backend
//!   brings.
//! - [`Detokenizer`]: tokens to text one at a time, never half a character.
//! - [`StopStrings`]: does the last token complete a stop string? And [`StopFilter`], which keeps stop strings and
//!   their beginnings off the screen.
//! - [`ChatTemplate`]: messages to prompt, with the model's own Jinja template.
//!
//! A token is a plain `u32`. Nothing here knows of a backend, a device or a tensor.
//!
//! ```
//! use upcycle_checkpoint::gguf::Gguf;
//! use upcycle_text::{ChatTemplate, Message, Specials, Tokenizer};
//!
//! # use upcycle_checkpoint::gguf::{StringArray, write::GgufWriter};
//! # let tokens: StringArray = "<Userai:>?hO".chars().map(String::from).collect();
//! # let file = GgufWriter::new()
//! #     .metadata("tokenizer.ggml.model", "gpt2")
//! #     .metadata("tokenizer.ggml.pre", "gpt-2")
//! #     .metadata("tokenizer.ggml.tokens", tokens)
//! #     .metadata("tokenizer.ggml.token_type", vec![1; 12])
//! #     .metadata("tokenizer.ggml.merges", StringArray::new())
//! #     .metadata("tokenizer.chat_template", "<{{ messages[0].role.title() }}:{{ messages[0].content }}>");
//! # let folder = tempfile::tempdir().unwrap();
//! # let path = folder.path().join("model.gguf");
//! # file.write_to(&mut std::fs::File::create(&path).unwrap())?;
//! let gguf = Gguf::open(path)?;
//! let tokenizer = Tokenizer::from_gguf(&gguf)?;
//! let template = ChatTemplate::from_gguf(&gguf)?.expect("this model has a chat template");
//!
//! let prompt = template.render(&[Message::user("Oh?")], true)?;
//! let tokens = tokenizer.encode(&prompt, Specials::Parse)?;
//! assert_eq!(tokenizer.decode(&tokens)?, "<User:Oh?>");
//! # Ok::<(), upcycle_text::TextError>(())
//! ```

mod byte_level;
mod calendar;
mod depth;
mod detokenizer;
mod dialect;
mod encode;
mod error;
mod foreign;
mod generation;
mod gguf_vocab;
mod json_vocab;
mod namespaces;
mod pre;
mod python_json;
mod spm;
mod stop;
mod stop_filter;
mod template;
mod tokenizer;
mod veil;
mod vocabulary;

pub use detokenizer::Detokenizer;
pub use encode::{Specials, WHITESPACE_RUN_LIMIT};
pub use error::TextError;
pub use foreign::{Encode, ForeignToken, ForeignVocabulary};
pub use stop::StopStrings;
pub use stop_filter::StopFilter;
pub use template::{ChatTemplate, FUEL, Message, RESERVED, TemplateTokens};
pub use tokenizer::Tokenizer;
