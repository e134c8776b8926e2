use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use aho_corasick::{AhoCorasick, MatchKind};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedVocabulary, ModelWrapper};
use upcycle_checkpoint::gguf::Gguf;

use crate::detokenizer::Detokenizer;
use crate::error::TextError;
use crate::external::{Encode, ExternalToken, ExternalVocabulary};
use crate::parts::TokenizerParts;
use crate::template::TemplateTokens;
use crate::vocabulary::{END_IS_SEPARATOR, PieceFormat, TokenKind, Vocabulary, is_end_name};
use crate::{gguf_tokenizer, sentencepiece, tokenizer_json};

/// A tokenizer: byte-level BPE, SentencePiece BPE, or an [external](Self::external) one. Clones are cheap and share one
/// vocabulary.
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
}

/// Splits text into tokens.
pub(crate) enum Encoder {
    Bpe(Box<Bpe>),
    External { encoder: Arc<dyn Encode>, kind: String, names: Vec<String> },
}

pub(crate) struct Bpe {
    pub(crate) encoder: tokenizers::Tokenizer,
    pub(crate) format: PieceFormat,
    /// The encoder's added tokens, without the special ones.
    pub(crate) plain: AddedVocabulary,
    /// Finds the names of special tokens, the longest first.
    pub(crate) specials: AhoCorasick,
    /// Without an unknown token, BPE silently drops characters without a token. [`Tokenizer::encode`] reports them instead.
    pub(crate) drops_unknown: bool,
}

impl Tokenizer {
    /// Builds the tokenizer that a GGUF file describes under `tokenizer.ggml.*`.
    ///
    /// Control tokens (type 3) become special tokens, and user-defined ones (type 4) added tokens. Tokens with the names of known
    /// control tokens are special whatever their type. As in llama.cpp, text is not normalized, except for the spaces of
    /// SentencePiece: GGUF files name no normalizer. A file without `pre`, token types, scores or valid special ids loads with
    /// llama.cpp's defaults and a warning, except that byte-level vocabularies have no default special tokens.
    ///
    /// # Errors
    /// A key is missing or has the wrong type; the tokenizer is neither byte-level BPE (`gpt2`) nor SentencePiece BPE (`llama`);
    /// its `pre` is unknown; or vocabulary, merges or scores are invalid.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self, TextError> {
        Self::new(gguf_tokenizer::read(gguf)?)
    }

    /// Reads a `tokenizer.json` of the Hugging Face tokenizers library: byte-level BPE or SentencePiece BPE.
    ///
    /// The tokens that begin and end a text come from `tokenizer_config.json`, `generation_config.json` and `genai_config.json`
    /// in the same folder, where these exist. [`eos_ids`](Self::eos_ids) also holds end tokens known by name.
    ///
    /// # Errors
    /// A file cannot be read or parsed, the tokenizer is of another kind, or its merges are invalid.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, TextError> {
        Self::new(tokenizer_json::read(path.as_ref())?)
    }

    fn new(parts: TokenizerParts) -> Result<Self, TextError> {
        let TokenizerParts { encoder, format, tokens, bos, add_bos, eos, ends } = parts;
        let end_is_separator = END_IS_SEPARATOR
            .iter()
            .any(|pair| [pair.0, pair.1].iter().all(|name| encoder.token_to_id(name).is_some()));
        let is_end = |name: &str| is_end_name(name) && !(end_is_separator && name == "<|end|>");
        let named =
            (0..).zip(&tokens).filter(|(_, (name, kind))| *kind == TokenKind::Control && is_end(name));
        let eos_ids = ends.iter().copied().chain(named.map(|(id, _)| id)).collect();

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
        let vocabulary = Vocabulary::new(format, tokens.iter().map(|(text, kind)| (text.as_str(), *kind)));
        let name = |id: u32| tokens.get(id as usize).map(|(name, _)| name.clone());
        let template_tokens = TemplateTokens { bos: bos.and_then(name), eos: eos.and_then(name) };
        let encoder = Encoder::Bpe(Box::new(Bpe { encoder, format, plain, specials, drops_unknown }));
        Ok(Self::assemble(encoder, vocabulary, (bos, add_bos), eos_ids, template_tokens))
    }

    /// A tokenizer over a vocabulary that the caller brings.
    ///
    /// # Errors
    /// [`TextError::VocabularySize`], or [`TextError::UnknownToken`] for a special token outside the vocabulary.
    pub fn external(vocabulary: ExternalVocabulary) -> Result<Self, TextError> {
        let ExternalVocabulary { encoder, kind, tokens, bos, add_bos, ends } = vocabulary;
        Vocabulary::check_size(tokens.len() as u64)?;
        let pairs = tokens.iter().map(|ExternalToken { name, bytes }| (name.as_str(), bytes.as_slice()));
        let vocabulary = Vocabulary::external(&kind, pairs);
        for &special in bos.iter().chain(&ends) {
            vocabulary.bytes(special)?;
        }
        let names: Vec<String> = tokens.into_iter().map(|token| token.name).collect();
        let name = |id: u32| names.get(id as usize).cloned();
        let template_tokens =
            TemplateTokens { bos: bos.and_then(name), eos: ends.first().copied().and_then(name) };
        let encoder = Encoder::External { encoder, kind, names };
        let add_bos = add_bos && bos.is_some();
        Ok(Self::assemble(encoder, vocabulary, (bos, add_bos), ends.into_iter().collect(), template_tokens))
    }

    fn assemble(
        encoder: Encoder,
        vocabulary: Vocabulary,
        (bos, add_bos): (Option<u32>, bool),
        eos_ids: BTreeSet<u32>,
        template_tokens: TemplateTokens,
    ) -> Self {
        let (vocabulary, eos_ids) = (Arc::new(vocabulary), eos_ids.into_iter().collect());
        Self { inner: Arc::new(Inner { encoder, vocabulary, bos, add_bos, eos_ids, template_tokens }) }
    }

    /// The text of these tokens. Special tokens contribute nothing, and the space that SentencePiece puts in front of a text is
    /// removed. Bytes that are not UTF-8 become U+FFFD, as in [`String::from_utf8_lossy`]. O(bytes).
    ///
    /// # Errors
    /// [`TextError::UnknownToken`] for an id outside the vocabulary.
    pub fn decode(&self, tokens: &[u32]) -> Result<String, TextError> {
        let mut bytes = Vec::with_capacity(tokens.len() * 4);
        for &token in tokens {
            bytes.extend(self.token_bytes(token)?);
        }
        if self.inner.vocabulary.strip_space_prefix && bytes.first() == Some(&b' ') {
            bytes.remove(0);
        }
        Ok(String::from_utf8(bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
    }

    /// The bytes that a token contributes to the text: none for a special token, possibly only part of a character. O(1).
    ///
    /// # Errors
    /// [`TextError::UnknownToken`] for an id outside the vocabulary.
    pub fn token_bytes(&self, token: u32) -> Result<&[u8], TextError> {
        self.inner.vocabulary.bytes(token)
    }

    /// The token as the vocabulary writes it, such as `<|im_end|>` or `Ġthe`. `None` for an id without a token.
    #[must_use]
    pub fn name(&self, token: u32) -> Option<String> {
        let name = match &self.inner.encoder {
            Encoder::Bpe(bpe) => bpe.encoder.id_to_token(token),
            Encoder::External { names, .. } => names.get(token as usize).cloned(),
        };
        name.filter(|name| !name.is_empty())
    }

    /// The highest token id plus one. The model's vocabulary may be larger, for padding.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        self.inner.vocabulary.len()
    }

    /// The tokens that end generation, in rising order. May be empty.
    ///
    /// These are the end-of-text, end-of-turn and end-of-message tokens that the file names, and special tokens with a known name
    /// (`<|im_end|>`, `<|eot_id|>`, `<|endoftext|>` and so on), as in llama.cpp. Many files do not name the token that ends a turn.
    #[must_use]
    pub fn eos_ids(&self) -> &[u32] {
        &self.inner.eos_ids
    }

    /// Whether this token ends generation. O(log n).
    #[must_use]
    pub fn is_eos(&self, token: u32) -> bool {
        self.inner.eos_ids.binary_search(&token).is_ok()
    }

    /// The token that begins a text, if the vocabulary has one.
    #[must_use]
    pub fn bos(&self) -> Option<u32> {
        self.inner.bos
    }

    /// Whether prompts begin with [`bos`](Self::bos). Many chat templates write it themselves; do not add it twice.
    #[must_use]
    pub fn add_bos(&self) -> bool {
        self.inner.add_bos
    }

    /// A SHA-256 of the kind of tokenizer and all tokens in id order. Tokenizers from different files have the same fingerprint if
    /// their ids mean the same.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        self.inner.vocabulary.fingerprint
    }

    /// The special tokens that chat templates use.
    #[must_use]
    pub fn template_tokens(&self) -> &TemplateTokens {
        &self.inner.template_tokens
    }

    /// A detokenizer at the start of a text.
    #[must_use]
    pub fn detokenizer(&self) -> Detokenizer {
        Detokenizer::new(Arc::clone(&self.inner.vocabulary))
    }

    /// The contents of a `tokenizer.json`, and of a `tokenizer_config.json` with the special tokens and the source of a template.
    /// [`from_file`](Self::from_file) reads the same tokenizer back.
    ///
    /// An unused id of a GGUF file (types 5 and 6) comes back as an ordinary token.
    ///
    /// # Errors
    /// [`TextError::Tokenizer`]; [`TextError::UnsupportedKind`] for an external tokenizer.
    pub fn to_json(&self, template: Option<&str>) -> Result<(String, String), TextError> {
        let (mut encoder, format) = match &self.inner.encoder {
            Encoder::Bpe(bpe) => (bpe.encoder.clone(), bpe.format),
            Encoder::External { kind, .. } => {
                return Err(TextError::UnsupportedKind { found: kind.clone(), known: gguf_tokenizer::KNOWN });
            }
        };
        if encoder.get_decoder().is_none() {
            match format {
                PieceFormat::ByteLevel => encoder.with_decoder(Some(ByteLevel::default())),
                PieceFormat::SentencePiece { add_space_prefix } => {
                    encoder.with_decoder(Some(sentencepiece::decoder(add_space_prefix)?))
                }
            };
        }
        let tokens = encoder.to_string(false).map_err(TextError::library)?;
        let TemplateTokens { bos, eos } = self.template_tokens();
        let mut config = serde_json::Map::new();
        let mut put = |key: &str, value: Option<&str>| {
            config.extend(value.map(|value| (key.to_owned(), serde_json::Value::from(value))));
        };
        put("bos_token", bos.as_deref());
        put("eos_token", eos.as_deref());
        put("chat_template", template);
        config.insert("add_bos_token".to_owned(), self.add_bos().into());
        let config = serde_json::to_string_pretty(&config)
            .map_err(|error| TextError::Tokenizer { reason: error.to_string() })?;
        Ok((tokens, config))
    }

    /// The first special token whose name is in `text`: its name, and the token if that is the whole text. O(bytes), or O(vocabulary)
    /// for an external tokenizer.
    pub(crate) fn special_in(&self, text: &str) -> Option<(String, Option<u32>)> {
        let found = match &self.inner.encoder {
            Encoder::Bpe(bpe) => {
                let name = &text[bpe.specials.find(text)?.range()];
                (name, bpe.encoder.token_to_id(name))
            }
            Encoder::External { names, .. } => {
                // One or two characters name no control token that a text would not hold by chance.
                let special = |(id, name): &(u32, &String)| {
                    name.len() > 2
                        && text.contains(name.as_str())
                        && self.inner.vocabulary.get(*id).is_some_and(<[u8]>::is_empty)
                };
                let (id, name) = (0..).zip(names).filter(special).max_by_key(|(_, name)| name.len())?;
                (name.as_str(), Some(id))
            }
        };
        Some((found.0.to_owned(), found.1.filter(|_| found.0 == text)))
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
