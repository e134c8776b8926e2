//! Arms, as written on the command line.

use std::fmt;
use std::path::Path;

use upcycle::{Config, ConfigBuilder, ConfigError};

use crate::peers::{PeerSpec, PeerSpecError};

/// A drafter to measure on each configuration, or a peer.
///
/// Written `plain`, `configured`, `paper`, or as a drafter with its budget and tree: `recycling:8`,
/// `recycling:16@trees/mine.toml`, `mixed:2`, `mixed:auto`, `prompt-lookup:4`. Peers begin with `llama.cpp`.
#[derive(Clone, Debug, PartialEq)]
pub enum ArmSpec {
    /// Plain decoding.
    Plain,
    /// The configuration's own drafter.
    Configured,
    /// The paper's preset.
    Paper,
    /// A drafter.
    Drafter {
        /// Its name in the configuration.
        name: String,
        /// `drafter.budget`; none for the configuration's.
        nodes: Option<String>,
        /// `drafter.recycling.tree`; none for the configuration's.
        tree: Option<String>,
    },
    /// Another program.
    Peer(PeerSpec),
}

/// Why the text of an arm is invalid.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArmError {
    /// There is no such arm.
    #[error(
        "{found:?} is not an arm: expected `plain`, `configured`, `paper`, a drafter as `NAME[:NODES][@TREE]` (recycling, \
         mixed, prompt-lookup; NODES may be auto), or a peer as `llama.cpp[:TYPE[:N:M]]`"
    )]
    Unknown {
        /// The text.
        found: String,
    },
    /// An invalid peer.
    #[error(transparent)]
    Peer(#[from] PeerSpecError),
    /// The list is empty.
    #[error("the list of arms is empty; omit --arms for the default arms")]
    Empty,
}

impl ArmSpec {
    /// The default arms: plain decoding, the configured drafter, prompt lookup, and the peer's plain decoding. Without a
    /// peer the report says that it is absent.
    pub const DEFAULT: &str = "plain,configured,prompt-lookup,llama.cpp";

    /// Parses one arm.
    ///
    /// # Errors
    /// [`ArmError`].
    pub fn parse(text: &str) -> Result<Self, ArmError> {
        if text.starts_with("llama.cpp") {
            return Ok(Self::Peer(PeerSpec::parse(text)?));
        }
        let (rest, tree) = match text.split_once('@') {
            Some((rest, tree)) => (rest, Some(tree.to_owned())),
            None => (text, None),
        };
        let (name, nodes) = match rest.split_once(':') {
            Some((name, nodes)) => (name, Some(nodes.to_owned())),
            None => (rest, None),
        };
        let bare = nodes.is_none() && tree.is_none();
        match name {
            "plain" | "none" if bare => Ok(Self::Plain),
            "configured" if bare => Ok(Self::Configured),
            "paper" if bare => Ok(Self::Paper),
            "recycling" | "mixed" | "prompt-lookup" => {
                Ok(Self::Drafter { name: name.to_owned(), nodes, tree })
            }
            _ => Err(ArmError::Unknown { found: text.to_owned() }),
        }
    }

    /// Parses a list of arms, separated by commas. Duplicates are dropped. Plain decoding is added as the first arm if it is
    /// missing.
    ///
    /// # Errors
    /// [`ArmError`].
    pub fn parse_list(text: &str) -> Result<Vec<Self>, ArmError> {
        let mut arms = Vec::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let arm = Self::parse(part)?;
            if !arms.contains(&arm) {
                arms.push(arm);
            }
        }
        if arms.is_empty() {
            return Err(ArmError::Empty);
        }
        let backend = arms.iter().any(|arm| !matches!(arm, Self::Peer(_)));
        if backend && !arms.contains(&Self::Plain) {
            arms.insert(0, Self::Plain);
        }
        Ok(arms)
    }

    /// The configuration of this arm: `builder` with the arm's drafter. A peer has no drafter here and gets plain decoding.
    ///
    /// # Errors
    /// [`ConfigError`], which names the arm as the origin.
    pub fn configure(&self, builder: &ConfigBuilder) -> Result<Config, ConfigError> {
        let mut builder = builder.clone();
        let origin = format!("--arms {self}");
        let mut set = |key: &str, value: &str| builder.flag(&origin, key, value);
        match self {
            Self::Configured => {}
            Self::Plain | Self::Peer(_) => set("drafter.name", "none")?,
            Self::Paper => set("drafter.preset", "paper")?,
            Self::Drafter { name, nodes, tree } => {
                set("drafter.name", name)?;
                if let Some(nodes) = nodes {
                    set("drafter.budget", nodes)?;
                }
                if let Some(tree) = tree {
                    set("drafter.recycling.tree", tree)?;
                }
            }
        }
        builder.build()
    }
}

impl fmt::Display for ArmSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain => f.write_str("plain"),
            Self::Configured => f.write_str("configured"),
            Self::Paper => f.write_str("paper"),
            Self::Drafter { name, nodes, tree } => {
                f.write_str(name)?;
                if let Some(nodes) = nodes {
                    write!(f, ":{nodes}")?;
                }
                if let Some(tree) = tree {
                    write!(f, "@{tree}")?;
                }
                Ok(())
            }
            Self::Peer(peer) => write!(f, "{peer}"),
        }
    }
}

/// The name of a setup in a report: the file name of its configuration without folder and extension, with a number if it is
/// taken.
#[must_use]
pub fn setup_name(path: Option<&Path>, taken: &[String]) -> String {
    let stem =
        path.and_then(Path::file_stem).map_or("default".into(), |stem| stem.to_string_lossy().into_owned());
    let mut name = stem.clone();
    for number in 2.. {
        if !taken.contains(&name) {
            break;
        }
        name = format!("{stem}-{number}");
    }
    name
}

#[cfg(test)]
mod tests {
    use upcycle::Registry;

    use super::*;

    #[test]
    fn an_arm_is_written_as_it_is_parsed() {
        for text in
            ["plain", "configured", "paper", "mixed", "recycling:8", "recycling:16@t.toml", "mixed@t.toml"]
        {
            assert_eq!(ArmSpec::parse(text).unwrap().to_string(), text);
        }
        for text in ["", "plain:3", "recyling:8", "paper@x", "configured:2"] {
            let error = ArmSpec::parse(text).unwrap_err().to_string();
            assert!(error.contains("is not an arm") && error.contains("recycling"), "{error}");
        }
    }

    #[test]
    fn plain_decoding_is_always_added() {
        let list =
            |text| ArmSpec::parse_list(text).unwrap().iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(list("mixed:2, mixed:2,"), ["plain", "mixed:2"]);
        assert_eq!(list("recycling:1,plain"), ["recycling:1", "plain"]);
        assert!(matches!(ArmSpec::parse_list(" ,"), Err(ArmError::Empty)));
    }

    #[test]
    fn an_arm_overrides_only_the_drafter_of_a_configuration() {
        let mut builder = ConfigBuilder::new(&Registry::builtin());
        builder
            .text(Path::new("x.toml"), "[drafter]\nname = \"mixed\"\nbudget = 3\n[decode]\nseed = 7\n")
            .unwrap();
        let config = |arm: &str| ArmSpec::parse(arm).unwrap().configure(&builder).unwrap();
        let drafter = |arm| (config(arm).drafter().name().to_owned(), config(arm).drafter().budget().nodes());
        assert_eq!(drafter("plain"), ("none".to_owned(), Some(0)));
        assert_eq!(drafter("configured"), ("mixed".to_owned(), Some(3)));
        assert_eq!(drafter("recycling:8"), ("recycling".to_owned(), Some(8)));
        assert_eq!(drafter("prompt-lookup"), ("prompt-lookup".to_owned(), Some(3)));
        assert_eq!(drafter("mixed:auto"), ("mixed".to_owned(), None));
        assert_eq!(drafter("paper"), ("recycling".to_owned(), Some(80)));
        assert_eq!(config("mixed:5").decode().sampling.config().seed, 7);
        let error = ArmSpec::parse("mixed:many").unwrap().configure(&builder).unwrap_err();
        assert!(error.to_string().starts_with("--arms mixed:many: "), "{error}");
    }

    #[test]
    fn setups_with_equal_names_are_numbered() {
        let taken = ["cpu".to_owned(), "cpu-2".to_owned()];
        assert_eq!(setup_name(Some(Path::new("configs/cpu.toml")), &taken), "cpu-3");
        assert_eq!(setup_name(None, &taken), "default");
    }
}
