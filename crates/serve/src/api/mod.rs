//! The endpoints.

pub(crate) mod body;
pub(crate) mod chat;
pub(crate) mod completions;
pub(crate) mod fields;
pub(crate) mod logprobs;
pub(crate) mod messages;
pub(crate) mod models;
pub(crate) mod responses;
pub(crate) mod stream;
pub(crate) mod tokens;
