//! A part of an answer.

use upcycle_core::TokenLogprobs;

/// A part of an answer's text. It is never empty.
#[derive(Clone, Debug, PartialEq)]
pub struct Piece {
    /// The text, in whole characters.
    pub text: String,
    /// Whether the text comes from accepted draft tokens.
    pub drafted: bool,
    /// The log probabilities of the tokens whose text begins in this piece, and of the tokens without text before them, if the
    /// [request](super::Request::logprobs) asks for them.
    pub logprobs: Vec<TokenLogprobs>,
}
