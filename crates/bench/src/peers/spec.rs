//! Parses peers from the text of an arm, and makes the arguments of `llama-server`.

use std::ffi::OsString;
use std::fmt;
use std::path::Path;

/// The prefix of this peer in the text of an arm.
const ENGINE: &str = "llama.cpp";

/// The most tokens that `llama-server` accepts as an n-gram or as a draft.
const MAX_SIZE: usize = 1024;

/// A drafter of llama.cpp that needs no second model, by its name for `llama-server --spec-type`.
///
/// The descriptions hold for commit 0c1e57098, which `scripts/get-peers.sh` builds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PeerDrafter {
    /// `ngram-simple`: finds the latest earlier occurrence of the last N tokens and drafts the M tokens after it. Defaults: N
    /// 12, M 48. Copies shorter than N are dropped, so M must be at least N.
    NgramSimple,
    /// `ngram-map-k`: the same with a table of N-gram positions. An N-gram drafts at most as many tokens as were accepted of
    /// its last draft, and nothing after a rejected draft. Defaults: N 12, M 48.
    NgramMapK,
    /// `ngram-map-k4v`: like `ngram-map-k`, but counts up to four continuations of each N-gram and drafts only if one is twice
    /// as frequent as the others together. Defaults: N 12, M 48.
    NgramMapK4v,
    /// `ngram-mod`: a table from the hash of N tokens to the token that last followed, shared by all prompts of the server.
    /// Drafts token by token while the table has an entry. Defaults: N 24, drafts of 48 to 64 tokens; with sizes, 1 to M. The
    /// server warns that N below 16 drafts poorly.
    NgramMod,
    /// `ngram-cache`: counts which token follows 1 to 4 tokens. Its sizes are fixed: drafts of up to 8 tokens.
    ///
    /// It hardly learns in the server: it counts only within newly added tokens, usually a single one, and only beyond the
    /// longest text so far. Expect few drafts or none.
    NgramCache,
}

/// The sizes of an n-gram drafter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Sizes {
    /// Tokens of an n-gram, N, 1 to 1024.
    ngram: usize,
    /// The most tokens of a draft, M, 1 to 1024.
    draft: usize,
}

/// llama.cpp, plain or with one of its drafters.
///
/// Written as `llama.cpp`, `llama.cpp:DRAFTER` with default sizes, or `llama.cpp:DRAFTER:N:M`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PeerSpec {
    drafter: Option<PeerDrafter>,
    sizes: Option<Sizes>,
}

/// Why a text is not a peer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PeerSpecError {
    /// It has another prefix.
    #[error("expected `llama.cpp`, `llama.cpp:DRAFTER` or `llama.cpp:DRAFTER:N:M`, found `{found}`")]
    OtherEngine {
        /// The text.
        found: String,
    },
    /// There is no such drafter.
    #[error("llama.cpp has no drafter `{found}`; it has {names}", names = PeerDrafter::names())]
    UnknownDrafter {
        /// The name.
        found: String,
    },
    /// The sizes are not two numbers.
    #[error(
        "expected two numbers from 1 to 1024 after `llama.cpp:{drafter}`, the tokens of an n-gram and those of a \
         draft (`llama.cpp:{drafter}:3:4`), or nothing; found `{found}`"
    )]
    Sizes {
        /// The drafter.
        drafter: PeerDrafter,
        /// The text after its name.
        found: String,
    },
    /// The sizes of the drafter are fixed.
    #[error("the sizes of `{drafter}` are fixed (up to 8 tokens after 1 to 4); remove `:{found}`")]
    FixedSizes {
        /// The drafter.
        drafter: PeerDrafter,
        /// The text after its name.
        found: String,
    },
    /// The drafter would never draft.
    #[error(
        "`{drafter}` drops drafts shorter than its n-gram, so it would never draft {draft} tokens after {ngram}; \
         use a draft of {ngram} tokens or more"
    )]
    DraftTooShort {
        /// The drafter.
        drafter: PeerDrafter,
        /// N.
        ngram: usize,
        /// M.
        draft: usize,
    },
}

impl PeerDrafter {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::NgramSimple, Self::NgramMapK, Self::NgramMapK4v, Self::NgramMod, Self::NgramCache];

    /// llama.cpp's name for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NgramSimple => "ngram-simple",
            Self::NgramMapK => "ngram-map-k",
            Self::NgramMapK4v => "ngram-map-k4v",
            Self::NgramMod => "ngram-mod",
            Self::NgramCache => "ngram-cache",
        }
    }

    fn names() -> String {
        Self::ALL.map(|drafter| format!("`{drafter}`")).join(", ")
    }

    /// The arguments that select it.
    fn arguments(self, sizes: Option<Sizes>) -> Vec<String> {
        let mut arguments = vec!["--spec-type".to_owned(), self.name().to_owned()];
        let mut push = |option: &str, value: usize| {
            arguments.extend([format!("--spec-{self}-{option}"), value.to_string()]);
        };
        match (self, sizes) {
            (_, None) | (Self::NgramCache, _) => {}
            (Self::NgramMod, Some(Sizes { ngram, draft })) => {
                push("n-match", ngram);
                // Its default drops drafts below 48 tokens.
                push("n-min", 0);
                push("n-max", draft);
            }
            (Self::NgramSimple | Self::NgramMapK | Self::NgramMapK4v, Some(Sizes { ngram, draft })) => {
                push("size-n", ngram);
                push("size-m", draft);
            }
        }
        arguments
    }
}

impl fmt::Display for PeerDrafter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl PeerSpec {
    /// Plain decoding.
    #[must_use]
    pub fn plain() -> Self {
        Self { drafter: None, sizes: None }
    }

    /// Parses the text of an arm. [`Display`](fmt::Display) writes it.
    ///
    /// # Errors
    /// [`PeerSpecError`].
    pub fn parse(text: &str) -> Result<Self, PeerSpecError> {
        let (engine, rest) = split(text);
        if engine != ENGINE {
            return Err(PeerSpecError::OtherEngine { found: text.to_owned() });
        }
        let Some(rest) = rest else { return Ok(Self::plain()) };
        let (name, rest) = split(rest);
        let drafter = PeerDrafter::ALL
            .into_iter()
            .find(|drafter| drafter.name() == name)
            .ok_or_else(|| PeerSpecError::UnknownDrafter { found: name.to_owned() })?;
        let sizes = rest.map(|rest| Sizes::parse(drafter, rest)).transpose()?;
        Ok(Self { drafter: Some(drafter), sizes })
    }

    /// Whether it decodes plainly.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.drafter.is_none()
    }

    /// Its drafter with the given sizes, such as `ngram-simple:3:4`; `none` for plain decoding.
    #[must_use]
    pub fn drafter(&self) -> String {
        match (self.drafter, self.sizes) {
            (None, _) => "none".to_owned(),
            (Some(drafter), None) => drafter.name().to_owned(),
            (Some(drafter), Some(Sizes { ngram, draft })) => format!("{drafter}:{ngram}:{draft}"),
        }
    }

    /// The most tokens of a draft; none for plain decoding and default sizes.
    #[must_use]
    pub fn draft_tokens(&self) -> Option<usize> {
        self.sizes.map(|sizes| sizes.draft)
    }

    /// Whether drafts depend on earlier prompts of the same server. Its tables cannot be cleared from outside, so independent
    /// prompts need a new server each.
    #[must_use]
    pub fn carries_over(&self) -> bool {
        match self.drafter {
            None | Some(PeerDrafter::NgramSimple) => false,
            // The maps clear only entries beyond the end of the new prompt.
            Some(
                PeerDrafter::NgramMapK
                | PeerDrafter::NgramMapK4v
                | PeerDrafter::NgramMod
                | PeerDrafter::NgramCache,
            ) => true,
        }
    }

    /// Its command line, quoted for a shell.
    ///
    /// `context` is the most tokens of a prompt and its answer together; 0 for the model's own limit.
    #[must_use]
    pub fn command_line(&self, program: &Path, model: &Path, threads: usize, context: usize) -> String {
        let arguments = self.arguments(model, threads, context);
        let log_tail = std::iter::once(program.as_os_str()).chain(arguments.iter().map(OsString::as_os_str));
        log_tail.map(|word| quoted(&word.to_string_lossy())).collect::<Vec<_>>().join(" ")
    }

    /// The arguments of [`command_line`](Self::command_line).
    pub(super) fn arguments(&self, model: &Path, threads: usize, context: usize) -> Vec<OsString> {
        let threads = threads.to_string();
        let mut arguments: Vec<OsString> = vec!["-m".into(), model.into()];
        arguments.extend(
            [
                // Port 0 is any free port; the log names it.
                ["--host", "127.0.0.1"],
                ["--port", "0"],
                ["-t", &threads],
                ["-tb", &threads],
                ["-c", &context.to_string()],
                ["-np", "1"],
                // Every request reads its whole prompt.
                ["--cache-ram", "0"],
                // A context that does not fit is an error; it must not be made smaller.
                ["--fit", "off"],
            ]
            .concat()
            .into_iter()
            .map(OsString::from),
        );
        arguments.extend(["--no-cache-prompt", "--no-ui", "--offline"].map(OsString::from));
        if let Some(drafter) = self.drafter {
            arguments.extend(drafter.arguments(self.sizes).into_iter().map(OsString::from));
        }
        arguments
    }
}

impl fmt::Display for PeerSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_plain() { f.write_str(ENGINE) } else { write!(f, "{ENGINE}:{}", self.drafter()) }
    }
}

impl Sizes {
    fn parse(drafter: PeerDrafter, text: &str) -> Result<Self, PeerSpecError> {
        if drafter == PeerDrafter::NgramCache {
            return Err(PeerSpecError::FixedSizes { drafter, found: text.to_owned() });
        }
        // Only digits: `parse` would accept `+3`.
        let size = |text: &str| {
            let digits = text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse().ok().filter(|size| digits && (1..=MAX_SIZE).contains(size))
        };
        let sizes = text.split_once(':').and_then(|(ngram, draft)| Some((size(ngram)?, size(draft)?)));
        let Some((ngram, draft)) = sizes else {
            return Err(PeerSpecError::Sizes { drafter, found: text.to_owned() });
        };
        if drafter == PeerDrafter::NgramSimple && draft < ngram {
            return Err(PeerSpecError::DraftTooShort { drafter, ngram, draft });
        }
        Ok(Self { ngram, draft })
    }
}

/// The text before the first colon, and the text after it.
fn split(text: &str) -> (&str, Option<&str>) {
    text.split_once(':').map_or((text, None), |(head, rest)| (head, Some(rest)))
}

fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:=,+@%".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}
