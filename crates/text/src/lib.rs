#![forbid(unsafe_code)]
//! Tokenizers, chat templates and stop strings of language models.
//!
//! - [`Tokenizer`]: byte-level BPE or SentencePiece BPE, from a GGUF file or a `tokenizer.json`; or an external one.
//! - [`Detokenizer`]: turns tokens into text one at a time, in whole characters.
//! - [`ChatTemplate`]: turns messages into a prompt with the model's Jinja template.
//! - [`ModelSampling`]: how the authors of a model suggest to choose tokens.
//! - [`StopStrings`]: detects stop strings token by token. [`StopFilter`] hides them from streamed text.
//!
//! A token is a plain `u32`. This crate knows no backend, device or tensor.
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
//! let template = ChatTemplate::from_gguf(&gguf, tokenizer.template_tokens())?.expect("this model has a chat template");
//!
//! let prompt = template.render(&[Message::user("Oh?")], true)?;
//! let tokens = tokenizer.encode(&prompt, Specials::Parse)?;
//! assert_eq!(tokenizer.decode(&tokens)?, "<User:Oh?>");
//! # Ok::<(), upcycle_text::TextError>(())
//! ```

mod arguments;
mod byte_level;
mod detokenizer;
mod encode;
mod error;
mod escape;
mod external;
mod gguf_tokenizer;
mod hf_compat;
mod jinja_filters;
mod json_file;
mod model_sampling;
mod namespaces;
mod parts;
mod pre_tokenizer;
mod python_json;
mod python_methods;
mod sentencepiece;
mod sidecars;
mod specials;
mod stop;
mod stop_filter;
mod strftime;
mod template;
mod template_depth;
mod template_source;
mod tokenizer;
mod tokenizer_json;
mod vocabulary;

pub use detokenizer::Detokenizer;
pub use encode::WHITESPACE_RUN_LIMIT;
pub use error::TextError;
pub use external::{Encode, ExternalToken, ExternalVocabulary};
pub use model_sampling::ModelSampling;
pub use specials::Specials;
pub use stop::StopStrings;
pub use stop_filter::StopFilter;
pub use template::{ChatTemplate, FUEL, Message, RESERVED, TemplateTokens};
pub use tokenizer::Tokenizer;
