//! What each token stands for, in id order.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::{TextError, byte_level, spm};

/// The most tokens a vocabulary may have: some sixteen times the largest in use.
const VOCABULARY_LIMIT: u64 = 1 << 22;

/// What a token is to the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenKind {
    /// A piece of text, as its [`Spelling`] has it.
    Normal,
    /// One byte of text.
    Byte(u8),
    /// A mark for the model, which is no part of the text: `<|im_end|>`.
    Control,
    /// A piece of text that stands for itself: `<think>`.
    UserDefined,
    /// A filler that stands for nothing.
    Unused,
}

/// How pieces of text are written in a vocabulary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spelling {
    /// In GPT-2's alphabet.
    ByteLevel,
    /// With `▁` for a space; whether one stands in front of every text, which is not the text's own.
    SentencePiece { space_in_front: bool },
}

impl Spelling {
    fn bytes_of(self, token: &str) -> Vec<u8> {
        match self {
            Self::ByteLevel => byte_level::bytes_of(token),
            Self::SentencePiece { .. } => spm::bytes_of(token),
        }
    }

    /// Told apart in fingerprints.
    fn name(self) -> &'static [u8] {
        match self {
            Self::ByteLevel => b"byte-level BPE\0",
            Self::SentencePiece { space_in_front: true } => b"SentencePiece BPE\0",
            Self::SentencePiece { space_in_front: false } => b"SentencePiece BPE without a space in front\0",
        }
    }
}

/// The bytes of each token, in one allocation.
pub(crate) struct Vocabulary {
    bytes: Vec<u8>,
    /// Where each token ends in `bytes`.
    ends: Vec<usize>,
    pub(crate) fingerprint: [u8; 32],
    /// A text's first space is not its own.
    pub(crate) space_in_front: bool,
}

impl Vocabulary {
    /// Takes the tokens in id order; an id without a token is an unused token without text.
    pub(crate) fn new<'t>(spelling: Spelling, tokens: impl Iterator<Item = (&'t str, TokenKind)>) -> Self {
        let mut bytes = Vec::new();
        let mut ends = Vec::new();
        let mut digest = Sha256::new();
        digest.update(spelling.name());
        for (token, kind) in tokens {
            digest.update((token.len() as u64).to_le_bytes());
            digest.update(token.as_bytes());
            match kind {
                TokenKind::Normal => bytes.extend(spelling.bytes_of(token)),
                TokenKind::Byte(byte) => bytes.push(byte),
                TokenKind::UserDefined => bytes.extend(token.as_bytes()),
                TokenKind::Control | TokenKind::Unused => {}
            }
            ends.push(bytes.len());
        }
        let space_in_front = spelling == Spelling::SentencePiece { space_in_front: true };
        Self { bytes, ends, fingerprint: digest.finalize().into(), space_in_front }
    }

    /// Takes the tokens of another kind of tokenizer: their names and bytes, in id order.
    pub(crate) fn foreign<'t>(kind: &str, tokens: impl Iterator<Item = (&'t str, &'t [u8])>) -> Self {
        let (mut bytes, mut ends, mut digest) = (Vec::new(), Vec::new(), Sha256::new());
        digest.update(kind.as_bytes());
        digest.update(b"\0");
        for (name, text) in tokens {
            digest.update((name.len() as u64).to_le_bytes());
            digest.update(name.as_bytes());
            bytes.extend_from_slice(text);
            ends.push(bytes.len());
        }
        Self { bytes, ends, fingerprint: digest.finalize().into(), space_in_front: false }
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

    /// The bytes that a token contributes to the text, `None` outside the vocabulary. O(1).
    pub(crate) fn get(&self, id: u32) -> Option<&[u8]> {
        let index = usize::try_from(id).ok()?;
        let end = *self.ends.get(index)?;
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        Some(&self.bytes[start..end])
    }

    /// As [`get`](Self::get), with an error outside the vocabulary.
    pub(crate) fn bytes(&self, id: u32) -> Result<&[u8], TextError> {
        self.get(id).ok_or(TextError::UnknownToken { id, vocab_size: self.len() })
    }
}

impl fmt::Debug for Vocabulary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vocabulary").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// Names of tokens that end a turn or a text, by which a model's other end tokens are found: files name only one or
/// two of them. The list follows `special_eog_ids` in llama.cpp's `llama-vocab.cpp`.
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
    "<｜end▁of▁sentence｜>",
];

/// Whether an added token of this name ends generation.
pub(crate) fn is_end_name(name: &str) -> bool {
    END_NAMES.contains(&name)
}

/// In vocabularies that have both marks of one of these pairs, `<|end|>` only separates parts of one answer
/// (OpenAI's "harmony" format and Solar Open), so it does not end generation.
pub(crate) const PARTS_NOT_END: [(&str, &str); 2] = [("<|return|>", "<|call|>"), ("<|calls|>", "<|flush|>")];
