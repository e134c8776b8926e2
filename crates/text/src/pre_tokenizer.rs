//! The rules that split text into words before BPE, by the name under `tokenizer.ggml.pre` in a GGUF file.
//!
//! Names and their grouping follow llama.cpp's `llama-vocab.cpp`. The expressions come from the models' `tokenizer.json` files.
//! Each expression splits the words that the previous one left: a match becomes a word, and so does the text between matches.

use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{PreTokenizerWrapper, SplitDelimiterBehavior};

use crate::error::TextError;

/// GPT-2's own expression.
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
/// Llama 3's: numbers in groups of up to three digits.
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Qwen 2's: Llama 3's, with each digit by itself.
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Qwen 3.5's: Qwen 2's, with combining marks as part of words.
const QWEN35: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Mistral's Tekken: also splits words where lower case changes to upper case.
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// OpenAI's `o200k_base`.
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// DeepSeek V3's last expression.
const DEEPSEEK3: &str = r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##;
/// BLOOM's: words with the space before them; common punctuation stands apart.
const BLOOM: &str = r" ?[^(\s|.,!?…。，、।۔،)]+";

/// An entry of the table.
struct Rule {
    names: &'static [&'static str],
    expressions: &'static [&'static str],
    /// Whether a word that is a token skips the merges.
    ignore_merges: bool,
    /// Whether prompts begin with the BOS token by default.
    add_bos: bool,
}

const RULES: &[Rule] = &[
    Rule {
        names: &[
            "smollm",
            "starcoder",
            "refact",
            "command-r",
            "codeshell",
            "exaone",
            "minerva-7b",
            "mellum2",
        ],
        expressions: &[r"\p{N}", GPT2],
        ignore_merges: false,
        add_bos: false,
    },
    Rule {
        names: &[
            "gpt-2",
            "phi-2",
            "gigachat",
            "a.x-4.0",
            "mellum",
            "modern-bert",
            "mpt",
            "olmo",
            "jais",
            "trillion",
            "granite-docling",
            "exaone4",
        ],
        expressions: &[GPT2],
        ignore_merges: false,
        add_bos: false,
    },
    Rule {
        names: &["llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"],
        expressions: &[LLAMA3],
        ignore_merges: true,
        add_bos: true,
    },
    Rule {
        names: &["dbrx", "smaug-bpe", "glm4", "chatglm-bpe"],
        expressions: &[LLAMA3],
        ignore_merges: false,
        add_bos: false,
    },
    Rule {
        names: &[
            "qwen2",
            "deepseek-r1-qwen",
            "kormo",
            "f2llmv2",
            "stablelm2",
            "megrez",
            "hunyuan",
            "solar-open",
            "grok-2",
        ],
        expressions: &[QWEN2],
        ignore_merges: false,
        add_bos: false,
    },
    Rule { names: &["qwen35"], expressions: &[QWEN35], ignore_merges: false, add_bos: false },
    Rule { names: &["tekken"], expressions: &[TEKKEN], ignore_merges: true, add_bos: true },
    Rule {
        names: &["gpt-4o", "llama4", "kanana2", "minimax-m2"],
        expressions: &[GPT4O],
        ignore_merges: false,
        add_bos: false,
    },
    Rule {
        names: &["deepseek-v3", "hunyuan-dense", "joyai-llm"],
        expressions: &[r"\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+", DEEPSEEK3],
        ignore_merges: false,
        add_bos: false,
    },
    Rule {
        names: &["deepseek-coder"],
        expressions: &[r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+", r"\p{N}"],
        ignore_merges: false,
        add_bos: false,
    },
    Rule {
        names: &["falcon"],
        expressions: &[r"[\p{P}\$\+<=>\^~\|`]+", GPT2, "[0-9][0-9][0-9]"],
        ignore_merges: false,
        add_bos: false,
    },
    Rule {
        names: &["bloom", "poro-chat", "gpt3-finnish"],
        expressions: &[BLOOM],
        ignore_merges: false,
        add_bos: false,
    },
    Rule { names: &["viking"], expressions: &[BLOOM, r"\p{N}"], ignore_merges: false, add_bos: false },
    // llama.cpp's rule for models that its converter did not recognise.
    Rule {
        names: &["default"],
        expressions: &[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"],
        ignore_merges: false,
        add_bos: false,
    },
];

/// A compiled rule.
#[derive(Debug)]
pub(crate) struct PreTokenizerRule {
    pub(crate) splitter: PreTokenizerWrapper,
    pub(crate) ignore_merges: bool,
    pub(crate) add_bos: bool,
}

impl PreTokenizerRule {
    /// The rule with this name.
    pub(crate) fn named(name: &str) -> Result<Self, TextError> {
        let rule = RULES.iter().find(|rule| rule.names.contains(&name)).ok_or_else(|| {
            let names: Vec<&str> = RULES.iter().flat_map(|rule| rule.names).copied().collect();
            TextError::UnknownPreTokenizer { found: name.to_owned(), known: names.join(", ") }
        })?;
        let mut steps = Vec::with_capacity(rule.expressions.len() + 1);
        for &expression in rule.expressions {
            let pattern = SplitPattern::Regex(expression.to_owned());
            let split =
                Split::new(pattern, SplitDelimiterBehavior::Isolated, false).map_err(TextError::library)?;
            steps.push(PreTokenizerWrapper::Split(split));
        }
        // Only maps bytes to GPT-2's alphabet: adds no space and splits nothing.
        steps.push(PreTokenizerWrapper::ByteLevel(ByteLevel::new(false, false, false)));
        Ok(Self {
            splitter: PreTokenizerWrapper::Sequence(Sequence::new(steps)),
            ignore_merges: rule.ignore_merges,
            add_bos: rule.add_bos,
        })
    }
}

#[cfg(test)]
mod tests {
    use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

    use super::*;

    fn words(name: &str, text: &str) -> Vec<String> {
        let rule = PreTokenizerRule::named(name).unwrap();
        let mut split = PreTokenizedString::from(text);
        rule.splitter.pre_tokenize(&mut split).unwrap();
        split
            .get_splits(OffsetReferential::Original, OffsetType::Byte)
            .into_iter()
            .map(|(_, (start, end), _)| text[start..end].to_owned())
            .collect()
    }

    #[test]
    fn every_rule_compiles_and_keeps_all_text() {
        let text = "It's 2024:  \t\n\nnaïve Café's DON'T 1234567 中文 e\u{301} {\"a\": [1, -2.5]} \u{200d}🦀\r\n  end ";
        let mut seen = std::collections::HashSet::new();
        for name in RULES.iter().flat_map(|rule| rule.names) {
            assert!(seen.insert(name), "{name} is listed twice");
            assert_eq!(words(name, text).concat(), text, "{name}");
        }
    }

    #[test]
    fn each_rule_splits_as_its_models_do() {
        assert_eq!(words("gpt-2", "I've 123 x"), ["I", "'ve", " 123", " x"]);
        assert_eq!(words("smollm", "I've 123 x"), ["I", "'ve", " ", "1", "2", "3", " x"]);
        assert_eq!(words("llama-bpe", "I'VE 12345"), ["I", "'VE", " ", "123", "45"]);
        assert_eq!(words("qwen2", "a 12\n\n b"), ["a", " ", "1", "2", "\n\n", " b"]);
        assert_eq!(words("tekken", "camelCase"), ["camel", "Case"]);
        assert_eq!(words("gpt-2", "a   b"), ["a", "  ", " b"]);
        assert_eq!(words("default", "a!b1234"), ["a", "!", "b", "123", "4"]);
    }

    #[test]
    fn long_runs_are_split_like_short_ones() {
        for name in RULES.iter().map(|rule| rule.names[0]) {
            for (run, tail) in [(" ", "x, it's"), ("\n", "x, it's"), ("A", "!, it's"), ("\u{301}", "!, it's")]
            {
                let end = |length| {
                    let mut words = words(name, &format!("{}{tail}", run.repeat(length)));
                    words.split_off(words.len() - 2)
                };
                assert_eq!(end(crate::encode::WHITESPACE_RUN_LIMIT), end(1_000), "{name} {run:?}");
            }
        }
    }

    #[test]
    fn an_unknown_name_is_an_error_that_lists_the_known_names() {
        let error = PreTokenizerRule::named("martian").unwrap_err().to_string();
        assert!(error.contains("`martian`") && error.contains("smollm, starcoder"), "{error}");
    }
}
