use crate::vocabulary::{PieceFormat, TokenKind};

/// A tokenizer as a file describes it.
pub(crate) struct TokenizerParts {
    pub(crate) encoder: tokenizers::Tokenizer,
    pub(crate) format: PieceFormat,
    /// In id order.
    pub(crate) tokens: Vec<(String, TokenKind)>,
    pub(crate) bos: Option<u32>,
    pub(crate) add_bos: bool,
    /// The template's `eos_token`.
    pub(crate) eos: Option<u32>,
    /// All end tokens that the file names.
    pub(crate) ends: Vec<u32>,
}

/// Whether two tokens of a vocabulary join to a third.
pub(crate) fn is_merge(left: &str, right: &str, has: impl Fn(&str) -> bool) -> bool {
    has(left) && has(right) && has(&format!("{left}{right}"))
}
