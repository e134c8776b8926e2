//! Text in and out of a model: the real tokenizer and template, and properties over small ones.

mod chat_template;
mod detokenizer;
mod expressions;
mod model;
mod model_sampling;
mod sentencepiece;
mod stop;
mod templates;
mod tokenizer;
mod tokenizer_json;
mod vocabularies;
