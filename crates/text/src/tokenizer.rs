use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use aho_corasick::{AhoCorasick, MatchKind};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedVocabulary, ModelWrapper};
use upcycle_checkpoint::gguf::Gguf;

use crate::vocabulary::{PARTS_NOT_END, Spelling, TokenKind, Vocabulary, is_end_name};
use crate::{
    ChatTemplate, Detokenizer, Encode, ForeignToken, ForeignVocabulary, TemplateTokens, TextError,
    gguf_vocab, json_vocab, spm,
};

/// A BPE tokenizer, byte-level or SentencePiece's, or one that is [brought along](Self::foreign). Cloning is cheap: clones share one vocabulary.
///
/// ```
/// use upcycle_checkpoint::gguf::{Gguf, StringArray, write::GgufWriter};
/// use upcycle_text::{Specials, Tokenizer};
///
/// let strings = |strings: &[&str]| strings.iter().collect::<StringArray>();
/// let file = GgufWriter::new()
///     .metadata("tokenizer.ggml.model", "gpt2")
///     .metadata("tokenizer.ggml.pre", "gpt-2")
///     .metadata("tokenizer.ggml.tokens", strings(&["<|end|>", "l", "o", "w", "<", "|", ">", "e", "n", "d", "lo"]))
///     .metadata("tokenizer.ggml.token_type", vec![3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1])
///     .metadata("tokenizer.ggml.merges", strings(&["l o"]))
///     .metadata("tokenizer.ggml.eos_token_id", 0_u32)
///     .to_bytes()?;
/// let tokenizer = Tokenizer::from_gguf(&Gguf::read(&mut std::io::Cursor::new(file))?)?;
///
/// assert_eq!(tokenizer.encode("low<|end|>", Specials::Parse)?, [10, 3, 0]);
/// assert_eq!(tokenizer.encode("<|end|>", Specials::Plain)?, [4, 5, 7, 8, 9, 5, 6]);
/// assert_eq!(tokenizer.decode(&[10, 3, 0])?, "low");
/// # Ok::<(), upcycle_text::TextError>(())
/// ```
#[derive(Clone)]
pub struct Tokenizer {
    inner: Arc<Inner>,
}

struct Inner {
    encoder: Encoder,
    vocabulary: Arc<Vocabulary>,
    bos: Option<u32>,
    add_bos: bool,
    /// Sorted.
    eos_ids: Vec<u32>,
    template_tokens: TemplateTokens,
    spelling: Spelling,
}

/// Who splits text.
pub(crate) enum Encoder {
    Bpe(Box<Bpe>),
    Foreign { encoder: Arc<dyn Encode>, kind: String, names: Vec<String> },
}

pub(crate) struct Bpe {
    pub(crate) encoder: tokenizers::Tokenizer,
    /// The encoder's added tokens, without the special ones.
    pub(crate) plain: AddedVocabulary,
    /// Finds the names of the special ones, the longest first.
    pub(crate) specials: AhoCorasick,
    /// Without an unknown token, BPE drops characters that it has no token for: that is to be an error.
    pub(crate) drops_unknown: bool,
}

/// What a file says of a tokenizer, for [`Tokenizer::assemble`].
pub(crate) struct Parts {
    pub(crate) encoder: tokenizers::Tokenizer,
    pub(crate) spelling: Spelling,
    /// In id order.
    pub(crate) tokens: Vec<(String, TokenKind)>,
    pub(crate) bos: Option<u32>,
    pub(crate) add_bos: bool,
    /// The end tokens that the file names, the first of them the template's `eos_token`.
    pub(crate) ends: Vec<u32>,
}

impl Tokenizer {
    /// Builds the tokenizer that a GGUF file describes under `tokenizer.ggml.*`.
    ///
    /// Control tokens (type 3) become special tokens and user-defined ones (type 4) added tokens. Text is not
    /// normalized but for SentencePiece's spaces: the files do not say how, and llama.cpp does not either.
    ///
    /// # Errors
    /// A key is missing or of the wrong type, the tokenizer is neither byte-level BPE (`gpt2`) nor SentencePiece's (`llama`), its
    /// `pre` is not known, or vocabulary, merges or scores are not sound.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self, TextError> {
        Self::assemble(gguf_vocab::parts(gguf)?)
    }

    /// Reads a `tokenizer.json` of the Hugging Face tokenizers library that describes a byte-level BPE, or SentencePiece's.
    ///
    /// Which tokens begin and end a text is read from a `tokenizer_config.json`, a `generation_config.json` and a `genai_config.json` beside it, where there
    /// are such files; see
    /// [`eos_ids`](Self::eos_ids) for the end tokens that are known by name.
    ///
    /// # Errors
    /// A file cannot be read or parsed, the tokenizer is of another kind, or its merges are not sound.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, TextError> {
        Self::assemble(json_vocab::parts(path.as_ref())?)
    }

    fn assemble(parts: Parts) -> Result<Self, TextError> {
        let Parts { encoder, spelling, tokens, bos, add_bos, ends } = parts;
        let text_of = |id: u32| tokens.get(id as usize).map(|(text, _)| text.clone());
        let template_tokens =
            TemplateTokens { bos: bos.and_then(text_of), eos: ends.first().copied().and_then(text_of) };
        let parts_not_end = PARTS_NOT_END
            .iter()
            .any(|pair| [pair.0, pair.1].iter().all(|name| encoder.token_to_id(name).is_some()));
        let named = tokens.iter().zip(0_u32..).filter(|((text, kind), _)| {
            matches!(kind, TokenKind::Control) && is_end_name(text) && !(parts_not_end && text == "<|end|>")
        });
        let eos_ids: BTreeSet<u32> = ends.iter().copied().chain(named.map(|(_, id)| id)).collect();

        let mut plain = encoder.get_added_vocabulary().clone();
        plain.set_encode_special_tokens(true);
        let added = encoder.get_added_vocabulary().get_added_tokens_decoder();
        let names = added.values().filter(|token| token.special && !token.content.is_empty());
        let specials = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(names.map(|token| token.content.as_str()))
            .map_err(|error| TextError::Tokenizer { reason: error.to_string() })?;
        let drops_unknown =
            matches!(encoder.get_model(), ModelWrapper::BPE(bpe) if bpe.get_unk_token().is_none());
        let vocabulary = Vocabulary::new(spelling, tokens.iter().map(|(text, kind)| (text.as_str(), *kind)));
        Ok(Self {
            inner: Arc::new(Inner {
                encoder: Encoder::Bpe(Box::new(Bpe { encoder, plain, specials, drops_unknown })),
                vocabulary: Arc::new(vocabulary),
                bos,
                add_bos,
                eos_ids: eos_ids.into_iter().collect(),
                template_tokens,
                spelling,
            }),
        })
    }

    /// A tokenizer over a vocabulary that is not built here.
    ///
    /// # Errors
    /// [`TextError::VocabularySize`], [`TextError::UnknownToken`] for a special token that the vocabulary lacks.
    pub fn foreign(vocabulary: ForeignVocabulary) -> Result<Self, TextError> {
        let ForeignVocabulary { encoder, kind, tokens, bos, add_bos, ends } = vocabulary;
        Vocabulary::check_size(tokens.len() as u64)?;
        let pairs = tokens.iter().map(|ForeignToken { name, bytes }| (name.as_str(), bytes.as_slice()));
        let built = Vocabulary::foreign(&kind, pairs);
        for &special in bos.iter().chain(&ends) {
            built.bytes(special)?;
        }
        let names: Vec<String> = tokens.into_iter().map(|token| token.name).collect();
        let name = |id: u32| names.get(id as usize).cloned();
        let template_tokens =
            TemplateTokens { bos: bos.and_then(name), eos: ends.first().copied().and_then(name) };
        let eos_ids: BTreeSet<u32> = ends.into_iter().collect();
        Ok(Self {
            inner: Arc::new(Inner {
                encoder: Encoder::Foreign { encoder, kind, names },
                vocabulary: Arc::new(built),
                bos,
                add_bos: add_bos && bos.is_some(),
                eos_ids: eos_ids.into_iter().collect(),
                template_tokens,
                spelling: Spelling::ByteLevel,
            }),
        })
    }

    /// The text of these tokens. Special tokens contribute nothing, and the space that a SentencePiece vocabulary puts in front of a
    /// text is left out; bytes that are not UTF-8 become U+FFFD, as in
    /// [`String::from_utf8_lossy`].
    ///
    /// # Errors
    /// [`TextError::UnknownToken`] for an id outside the vocabulary.
    pub fn decode(&self, tokens: &[u32]) -> Result<String, TextError> {
        let mut bytes = Vec::with_capacity(tokens.len() * 4);
        for &token in tokens {
            bytes.extend(self.token_bytes(token)?);
        }
        if self.inner.vocabulary.space_in_front && bytes.first() == Some(&b' ') {
            bytes.remove(0);
        }
        Ok(String::from_utf8(bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
    }

    /// The bytes that this token contributes to the text: none for a special token, and possibly a part of a
    /// character. O(1).
    ///
    /// # Errors
    /// [`TextError::UnknownToken`] for an id outside the vocabulary.
    pub fn token_bytes(&self, token: u32) -> Result<&[u8], TextError> {
        self.inner.vocabulary.bytes(token)
    }

    /// The token as the vocabulary writes it: `<|im_end|>` for a special token, the byte-level alphabet for others
    /// (`Ġthe`). None outside the vocabulary and for an id without a token.
    #[must_use]
    pub fn name(&self, token: u32) -> Option<String> {
        let name = match &self.inner.encoder {
            Encoder::Bpe(bpe) => bpe.encoder.id_to_token(token),
            Encoder::Foreign { names, .. } => names.get(token as usize).cloned(),
        };
        name.filter(|name| !name.is_empty())
    }

    /// The number of token ids: the highest id and one. The model's may be higher, for padding.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        self.inner.vocabulary.len()
    }

    /// The tokens after which generation is over, in rising order.
    ///
    /// These are the end-of-text, end-of-turn and end-of-message tokens that the file names, and special tokens with
    /// the name of one (`<|im_end|>`, `<|eot_id|>`, `<|endoftext|>` and so on), as in llama.cpp: chat models
    /// end their turns with a token that many files do not name. Empty where there are none of either.
    #[must_use]
    pub fn eos_ids(&self) -> &[u32] {
        &self.inner.eos_ids
    }

    /// Whether generation is over after this token. O(log n).
    #[must_use]
    pub fn is_eos(&self, token: u32) -> bool {
        self.inner.eos_ids.binary_search(&token).is_ok()
    }

    /// The token that begins a text, where the vocabulary has one.
    #[must_use]
    pub fn bos(&self) -> Option<u32> {
        self.inner.bos
    }

    /// Whether prompts are to begin with [`bos`](Self::bos). Many chat templates write it themselves: do not put it
    /// in front of a prompt that has it.
    #[must_use]
    pub fn add_bos(&self) -> bool {
        self.inner.add_bos
    }

    /// A SHA-256 over the kind of tokenizer and all tokens in id order: equal for tokenizers whose ids mean the
    /// same, whichever file they come from.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        self.inner.vocabulary.fingerprint
    }

    /// The texts of the special tokens that chat templates ask for.
    #[must_use]
    pub fn template_tokens(&self) -> &TemplateTokens {
        &self.inner.template_tokens
    }

    /// A detokenizer at the start of a text.
    #[must_use]
    pub fn detokenizer(&self) -> Detokenizer {
        Detokenizer::new(Arc::clone(&self.inner.vocabulary))
    }

    /// The tokenizer as the contents of a `tokenizer.json`, and its special tokens and `template` as those of the
    /// `tokenizer_config.json` to stand beside it: [`from_file`](Self::from_file) reads the same tokenizer back.
    ///
    /// An id without a use in a GGUF file (types 5 and 6) comes back as an ordinary token of its text.
    ///
    /// # Errors
    /// [`TextError::Tokenizer`]; [`TextError::UnsupportedKind`] for a foreign one.
    pub fn to_json(&self, template: Option<&ChatTemplate>) -> Result<(String, String), TextError> {
        let failed = |reason: String| TextError::Tokenizer { reason };
        let mut encoder = match &self.inner.encoder {
            Encoder::Bpe(bpe) => bpe.encoder.clone(),
            Encoder::Foreign { kind, .. } => {
                return Err(TextError::UnsupportedKind { found: kind.clone(), known: gguf_vocab::KNOWN });
            }
        };
        if encoder.get_decoder().is_none() {
            match self.inner.spelling {
                Spelling::ByteLevel => encoder.with_decoder(Some(ByteLevel::default())),
                Spelling::SentencePiece { space_in_front } => {
                    encoder.with_decoder(Some(spm::decoder(space_in_front)?))
                }
            };
        }
        let tokens = encoder.to_string(false).map_err(|error| failed(error.to_string()))?;
        let TemplateTokens { bos, eos } = self.template_tokens();
        let mut config = serde_json::Map::new();
        let mut put = |key: &str, value: Option<&str>| {
            config.extend(value.map(|value| (key.to_owned(), serde_json::Value::from(value))));
        };
        put("bos_token", bos.as_deref());
        put("eos_token", eos.as_deref());
        put("chat_template", template.map(ChatTemplate::source));
        config.insert("add_bos_token".to_owned(), self.add_bos().into());
        let config = serde_json::to_string_pretty(&config).map_err(|error| failed(error.to_string()))?;
        Ok((tokens, config))
    }

    pub(crate) fn encoder(&self) -> &Encoder {
        &self.inner.encoder
    }

    pub(crate) fn vocabulary(&self) -> &Arc<Vocabulary> {
        &self.inner.vocabulary
    }
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokenizer")
            .field("vocab_size", &self.vocab_size())
            .field("bos", &self.bos())
            .field("add_bos", &self.add_bos())
            .field("eos_ids", &self.eos_ids())
            .finish_non_exhaustive()
    }
}
