//! The bytes of each token, in id order.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::error::TextError;
use crate::{byte_level, sentencepiece};

/// The most tokens a vocabulary may have: about sixteen times the largest in use.
const VOCABULARY_LIMIT: u64 = 1 << 22;

/// What a token contributes to the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenKind {
    /// A piece of text, written in a [`PieceFormat`].
    Normal,
    /// One byte of text.
    Byte(u8),
    /// Nothing: a mark for the model, such as `<|im_end|>`.
    Control,
    /// Its own name, such as `<think>`.
    UserDefined,
    /// Nothing: the id has no use.
    Unused,
}

/// How a vocabulary writes pieces of text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PieceFormat {
    /// In GPT-2's byte alphabet.
    ByteLevel,
    /// With `▁` for a space. With `add_space_prefix`, the encoder puts a space in front of every text.
    SentencePiece { add_space_prefix: bool },
}

impl PieceFormat {
    /// The bytes that a piece stands for.
    pub(crate) fn bytes_of(self, token: &str) -> Vec<u8> {
        match self {
            Self::ByteLevel => byte_level::bytes_of(token),
            Self::SentencePiece { .. } => sentencepiece::bytes_of(token),
        }
    }

    /// Its part of a fingerprint.
    fn tag(self) -> &'static [u8] {
        match self {
            Self::ByteLevel => b"byte-level BPE\0",
            Self::SentencePiece { add_space_prefix: true } => b"SentencePiece BPE\0",
            Self::SentencePiece { add_space_prefix: false } => {
                b"SentencePiece BPE without a space in front\0"
            }
        }
    }
}

/// The bytes of each token, in one allocation.
pub(crate) struct Vocabulary {
    bytes: Vec<u8>,
    /// Where each token ends in `bytes`.
    ends: Vec<usize>,
    pub(crate) fingerprint: [u8; 32],
    /// Whether decoding drops the first space of a text.
    pub(crate) strip_space_prefix: bool,
}

impl Vocabulary {
    /// Takes the tokens in id order.
    pub(crate) fn new<'t>(format: PieceFormat, tokens: impl Iterator<Item = (&'t str, TokenKind)>) -> Self {
        let mut bytes = Vec::new();
        let mut ends = Vec::new();
        let mut digest = Sha256::new();
        digest.update(format.tag());
        for (token, kind) in tokens {
            digest.update((token.len() as u64).to_le_bytes());
            digest.update(token.as_bytes());
            match kind {
                TokenKind::Normal => bytes.extend(format.bytes_of(token)),
                TokenKind::Byte(byte) => bytes.push(byte),
                // In byte-level vocabularies these are not in the byte alphabet.
                TokenKind::UserDefined if format == PieceFormat::ByteLevel => bytes.extend(token.as_bytes()),
                TokenKind::UserDefined => bytes.extend(format.bytes_of(token)),
                TokenKind::Control | TokenKind::Unused => {}
            }
            ends.push(bytes.len());
        }
        let strip_space_prefix = format == PieceFormat::SentencePiece { add_space_prefix: true };
        Self { bytes, ends, fingerprint: digest.finalize().into(), strip_space_prefix }
    }

    /// Takes the names and bytes of an external vocabulary's tokens, in id order.
    pub(crate) fn external<'t>(kind: &str, tokens: impl Iterator<Item = (&'t str, &'t [u8])>) -> Self {
        let (mut bytes, mut ends, mut digest) = (Vec::new(), Vec::new(), Sha256::new());
        digest.update(kind.as_bytes());
        digest.update(b"\0");
        for (name, text) in tokens {
            digest.update((name.len() as u64).to_le_bytes());
            digest.update(name.as_bytes());
            bytes.extend_from_slice(text);
            ends.push(bytes.len());
        }
        Self { bytes, ends, fingerprint: digest.finalize().into(), strip_space_prefix: false }
    }

    /// Checks the size of a vocabulary before it is built.
    pub(crate) fn check_size(found: u64) -> Result<(), TextError> {
        if found == 0 || found > VOCABULARY_LIMIT {
            return Err(TextError::VocabularySize { found, limit: VOCABULARY_LIMIT });
        }
        Ok(())
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The bytes that a token contributes to the text; `None` for an id outside the vocabulary. O(1).
    pub(crate) fn get(&self, id: u32) -> Option<&[u8]> {
        let index = usize::try_from(id).ok()?;
        let end = *self.ends.get(index)?;
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        Some(&self.bytes[start..end])
    }

    /// As [`get`](Self::get), with an error for an id outside the vocabulary.
    pub(crate) fn bytes(&self, id: u32) -> Result<&[u8], TextError> {
        self.get(id).ok_or(TextError::UnknownToken { id, vocab_size: self.len() })
    }
}

impl fmt::Debug for Vocabulary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vocabulary").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// Names of tokens that end a turn or a text. Model files declare only one or two end tokens, so the others are found by name.
/// The list follows `special_eog_ids` in llama.cpp's `llama-vocab.cpp`, the last lines its tokens for padding, repositories and
/// files of code.
const END_NAMES: &[&str] = &[
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "[e~[",
    "<｜end▁of▁sentence｜>",
    "<|fim_pad|>",
    "<fim-pad>",
    "<fim_pad>",
    "<PAD>",
    "[PAD]",
    "<|fim_repo|>",
    "<|repo_name|>",
    "<fim-repo>",
    "<REPO>",
    "<reponame>",
    "<|file_sep|>",
];

/// Names of tokens around the parts of code to fill in. They end nothing.
const FILL_IN_NAMES: &[&str] = &[
    "<|fim_prefix|>",
    "<fim-prefix>",
    "<fim_prefix>",
    "<｜fim▁begin｜>",
    "<PRE>",
    "▁<PRE>",
    "<|code_prefix|>",
    "<|prefix|>",
    "<|fim_suffix|>",
    "<fim-suffix>",
    "<fim_suffix>",
    "<｜fim▁hole｜>",
    "<SUF>",
    "▁<SUF>",
    "<|code_suffix|>",
    "<|suffix|>",
    "<|fim_middle|>",
    "<fim-middle>",
    "<fim_middle>",
    "<｜fim▁end｜>",
    "<MID>",
    "▁<MID>",
    "<|code_middle|>",
    "<|middle|>",
];

/// Whether a token with this name ends generation.
pub(crate) fn is_end_name(name: &str) -> bool {
    END_NAMES.contains(&name)
}

/// Whether a token with this name is a control token, whatever type its file gives it.
pub(crate) fn is_control_name(name: &str) -> bool {
    is_end_name(name) || FILL_IN_NAMES.contains(&name)
}

/// `<|end|>` does not end generation in a vocabulary that has both tokens of one of these pairs. There it separates parts of
/// one answer (OpenAI's "harmony" format and Solar Open).
pub(crate) const END_IS_SEPARATOR: [(&str, &str); 2] =
    [("<|return|>", "<|call|>"), ("<|calls|>", "<|flush|>")];
