//! Which peer: parsed from an arm's text, and turned into `llama-server`'s arguments.

use std::ffi::OsString;
use std::fmt;
use std::path::Path;

/// What an arm's text begins with where it names this peer.
const ENGINE: &str = "llama.cpp";

/// The most tokens that `llama-server` takes as an n-gram or as a draft.
const LONGEST: usize = 1024;

/// One of llama.cpp's drafters that need no second model, by the name that `llama-server --spec-type` knows it by.
///
/// What is said of them was read in llama.cpp's commit 0c1e57098, the one that `scripts/get-peers.sh` builds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PeerDrafter {
    /// `ngram-simple`: looks for the last N tokens earlier in the text and drafts the M that followed them there, from
    /// the last place where they stand. By itself N is 12 and M 48. A copy shorter than N is dropped, so that M must
    /// be at least N.
    NgramSimple,
    /// `ngram-map-k`: the same, by a table of the places of N-grams; an N-gram drafts no more than was accepted of its
    /// last draft, and nothing more once a draft was wholly rejected. By itself N is 12 and M 48.
    NgramMapK,
    /// `ngram-map-k4v`: as `ngram-map-k`, but counts up to four continuations of M tokens for each N-gram, and drafts
    /// only where one is twice as frequent as the others together. By itself N is 12 and M 48.
    NgramMapK4v,
    /// `ngram-mod`: one table from the hash of N tokens to the token that followed last, shared by all prompts that
    /// the server was ever asked; drafts token by token until the table knows no more. By itself N is 24 and drafts
    /// have 48 to 64 tokens; with sizes given, 1 to M. The server warns that an N below 16 drafts poorly.
    NgramMod,
    /// `ngram-cache`: counts which token follows 1 to 4 tokens. Sizes cannot be set: drafts have up to 8 tokens.
    ///
    /// In the server it hardly learns. It counts inside the tokens that are new since it was last asked, which while
    /// plain tokens come is a single one, a pair never; and it goes on counting where the longest text so far ended,
    /// so that after the first prompt even prompts are missed. Its other two tables are files, which nothing here
    /// gives it. Expect few drafts, or none.
    NgramCache,
}

/// How much an n-gram drafter looks at and how much it drafts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Sizes {
    /// Tokens that must stand alike, N, 1 to 1024.
    ngram: usize,
    /// Tokens of a draft at most, M, 1 to 1024.
    draft: usize,
}

/// llama.cpp, plain or with one of its drafters.
///
/// Written as `llama.cpp`, `llama.cpp:DRAFTER` with the drafter's own sizes, or `llama.cpp:DRAFTER:N:M`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PeerSpec {
    drafter: Option<PeerDrafter>,
    sizes: Option<Sizes>,
}

/// A text that names no peer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PeerSpecError {
    /// It begins with something else.
    #[error("expected `llama.cpp`, `llama.cpp:DRAFTER` or `llama.cpp:DRAFTER:N:M`, found `{found}`")]
    OtherEngine {
        /// The text.
        found: String,
    },
    /// The drafter has no such name.
    #[error("llama.cpp has no drafter `{found}`; it has {names}", names = PeerDrafter::names())]
    UnknownDrafter {
        /// The name.
        found: String,
    },
    /// What follows the drafter's name is not two numbers.
    #[error(
        "expected two numbers from 1 to 1024 after `llama.cpp:{drafter}`, the tokens of an n-gram and those of a \
         draft (`llama.cpp:{drafter}:3:4`), or nothing; found `{found}`"
    )]
    Sizes {
        /// The drafter.
        drafter: PeerDrafter,
        /// What follows it.
        found: String,
    },
    /// The drafter takes no sizes.
    #[error(
        "`{drafter}` drafts up to 8 tokens after 1 to 4, and llama-server cannot change it; leave `:{found}` out"
    )]
    FixedSizes {
        /// The drafter.
        drafter: PeerDrafter,
        /// What follows it.
        found: String,
    },
    /// The drafter would never draft.
    #[error(
        "`{drafter}` drops drafts shorter than its n-gram, so that it would never draft {draft} tokens after \
         {ngram}; give a draft of {ngram} tokens or more"
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

    /// Its name, llama.cpp's own.
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

    /// The arguments that choose it.
    fn arguments(self, sizes: Option<Sizes>) -> Vec<String> {
        let mut arguments = vec!["--spec-type".to_owned(), self.name().to_owned()];
        let mut push = |option: &str, value: usize| {
            arguments.extend([format!("--spec-{self}-{option}"), value.to_string()]);
        };
        match (self, sizes) {
            (_, None) | (Self::NgramCache, _) => {}
            (Self::NgramMod, Some(Sizes { ngram, draft })) => {
                push("n-match", ngram);
                // By itself it drops drafts below 48 tokens.
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

    /// Reads an arm's text. [`Display`](fmt::Display) writes it.
    ///
    /// # Errors
    /// [`PeerSpecError`] names what would have been right.
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

    /// Whether it drafts nothing.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.drafter.is_none()
    }

    /// Its drafter with the sizes that were given, `ngram-simple:3:4`; `none` for plain decoding. Different peers have
    /// different ones.
    #[must_use]
    pub fn drafter(&self) -> String {
        match (self.drafter, self.sizes) {
            (None, _) => "none".to_owned(),
            (Some(drafter), None) => drafter.name().to_owned(),
            (Some(drafter), Some(Sizes { ngram, draft })) => format!("{drafter}:{ngram}:{draft}"),
        }
    }

    /// Tokens of a draft at most; none for plain decoding, and where the server's own number holds.
    #[must_use]
    pub fn draft_tokens(&self) -> Option<usize> {
        self.sizes.map(|sizes| sizes.draft)
    }

    /// Whether a prompt's drafts can depend on the prompts that the same server was asked before it. Where they must
    /// not, each prompt needs a server of its own, since nothing clears these tables from outside.
    #[must_use]
    pub fn carries_over(&self) -> bool {
        match self.drafter {
            None | Some(PeerDrafter::NgramSimple) => false,
            // The maps clear what lies behind the new prompt's end, and keep the rest.
            Some(
                PeerDrafter::NgramMapK
                | PeerDrafter::NgramMapK4v
                | PeerDrafter::NgramMod
                | PeerDrafter::NgramCache,
            ) => true,
        }
    }

    /// The command that runs it, for the record: arguments are quoted for a shell where they need it.
    ///
    /// `threads` both read prompts and decode; `context` is the most tokens of prompt and answer together, 0 for what
    /// the model was made for.
    #[must_use]
    pub fn command_line(&self, program: &Path, model: &Path, threads: usize, context: usize) -> String {
        let arguments = self.arguments(model, threads, context);
        let words = std::iter::once(program.as_os_str()).chain(arguments.iter().map(OsString::as_os_str));
        words.map(|word| quoted(&word.to_string_lossy())).collect::<Vec<_>>().join(" ")
    }

    /// The arguments that [`command_line`](Self::command_line) shows.
    pub(super) fn arguments(&self, model: &Path, threads: usize, context: usize) -> Vec<OsString> {
        let threads = threads.to_string();
        let mut arguments: Vec<OsString> = vec!["-m".into(), model.into()];
        arguments.extend(
            [
                // Port 0 is any that is free; the log says which.
                ["--host", "127.0.0.1"],
                ["--port", "0"],
                ["-t", &threads],
                ["-tb", &threads],
                ["-c", &context.to_string()],
                ["-np", "1"],
                // Every request reads its whole prompt, and none is kept beside the context.
                ["--cache-ram", "0"],
                // A context that does not fit is an error, not a smaller context.
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
        // Digits alone: `parse` would take `+3`.
        let size = |text: &str| {
            let digits = text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse().ok().filter(|size| digits && (1..=LONGEST).contains(size))
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

/// What stands before the first colon, and what behind it.
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
