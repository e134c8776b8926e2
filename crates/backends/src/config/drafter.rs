//! `[drafter]`: who guesses, and how much.

use std::path::PathBuf;

use upcycle_core::TreeTemplate;
use upcycle_core::template::MAX_RANKS;

use super::budget::Budget;
use super::choices::{existing_file, names, one_of, out_of_range, writable_file};
use super::error::{Problem, TreeFileError};
use super::raw::{RawBudget, RawDrafter};

/// Candidates kept for each token where the configuration does not say: the paper's k.
pub const DEFAULT_K: usize = 8;

/// The name of the built-in tree.
pub const PAPER_80: &str = "paper-80";

names! {
    /// A named setting of several keys.
    Preset {
        /// The paper's setting: recycling over the static tree of 80 nodes, all of them, k = 8, one matrix that no
        /// prompt row feeds.
        Paper = "paper",
    }
}

impl Preset {
    /// The drafter of every preset.
    pub(crate) const DRAFTER: &str = "recycling";

    /// Whether presets say what this key is.
    pub(super) fn fixes(key: &str) -> bool {
        ["drafter.name", "drafter.k", "drafter.tree", "drafter.budget"].contains(&key)
    }

    /// Refuses what is written beside it and differs.
    fn check(self, raw: &RawDrafter) -> Result<(), Problem> {
        let Self::Paper = self;
        let differs = |key, found: Option<String>, fixed: &'static str| match found {
            Some(found) if found != fixed => {
                Err(Problem::FixedByPreset { key, found, preset: self.name(), fixed })
            }
            _ => Ok(()),
        };
        differs("drafter.name", raw.name.clone(), Self::DRAFTER)?;
        differs("drafter.k", raw.k.map(|k| k.to_string()), "8")?;
        differs("drafter.tree", raw.tree.clone(), PAPER_80)?;
        let budget = raw.budget.clone().map(|budget| match budget {
            RawBudget::Nodes(nodes) => nodes.to_string(),
            RawBudget::Name(name) => format!("{name:?}"),
        });
        differs("drafter.budget", budget, "80")
    }
}

/// Who drafts.
#[derive(Clone, Debug, PartialEq)]
pub enum DrafterChoice {
    /// Token Recycling.
    Recycling(Recycling),
    /// The most probable nodes of several sources, best first.
    Mixed {
        /// Draft nodes for each step.
        budget: Budget,
        /// Who proposes them; none twice.
        sources: Vec<SourceName>,
    },
    /// A chain copied from prompt and output.
    PromptLookup {
        /// Draft tokens for each step.
        budget: Budget,
    },
    /// Nobody: plain decoding.
    None,
}

impl DrafterChoice {
    /// The name in the configuration.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            DrafterChoice::Recycling(_) => "recycling",
            DrafterChoice::Mixed { .. } => "mixed",
            DrafterChoice::PromptLookup { .. } => "prompt-lookup",
            DrafterChoice::None => "none",
        }
    }

    /// Draft nodes for each step, at most.
    #[must_use]
    pub fn budget(&self) -> &Budget {
        match self {
            DrafterChoice::Recycling(recycling) => &recycling.budget,
            DrafterChoice::Mixed { budget, .. } | DrafterChoice::PromptLookup { budget } => budget,
            DrafterChoice::None => &Budget::Nodes(0),
        }
    }
}

/// The most nodes that the mixed drafter is asked for: past some hundreds no tree earns anything.
const MAX_MIXED: usize = 512;

names! {
    /// A source of the mixed drafter.
    SourceName {
        /// The adjacency matrix: what came after this token.
        Recycling = "recycling",
        /// What came after these two tokens.
        Bigram = "bigram",
        /// What came after these three tokens.
        Trigram = "trigram",
        /// What followed the longest earlier match of the text's own end.
        Suffix = "suffix",
        /// What the model ranked high one step before.
        RunnersUp = "runners-up",
        /// What the text says most often.
        Frequent = "frequent",
    }
}

impl SourceName {
    /// Those that are mixed where the configuration does not say.
    pub const DEFAULT: [Self; 5] =
        [Self::Recycling, Self::Bigram, Self::Trigram, Self::Suffix, Self::Frequent];

    fn parse_all(names: Option<Vec<String>>) -> Result<Vec<Self>, Problem> {
        let Some(names) = names else { return Ok(Self::DEFAULT.to_vec()) };
        let mut sources = Vec::new();
        for name in &names {
            let source = Self::parse("drafter.sources", name)?;
            if sources.contains(&source) {
                return Err(out_of_range("drafter.sources", &format!("{names:?}"), "each source once"));
            }
            sources.push(source);
        }
        if sources.is_empty() {
            return Err(out_of_range("drafter.sources", &"[]", "at least one source"));
        }
        Ok(sources)
    }
}

/// The settings of Token Recycling.
#[derive(Clone, Debug, PartialEq)]
pub struct Recycling {
    /// The preset that fixes the rest, if one does.
    pub preset: Option<Preset>,
    /// Candidates kept for each token.
    pub k: usize,
    /// The tree.
    pub tree: Tree,
    /// Draft nodes for each step: the most valuable ones of the tree.
    pub budget: Budget,
    /// Where the matrix is read from, if the file is there, and kept afterwards.
    pub snapshot: Option<PathBuf>,
}

/// A draft tree and where it is from.
#[derive(Clone, Debug, PartialEq)]
pub struct Tree {
    /// The file; none for the built-in tree of the paper.
    pub path: Option<PathBuf>,
    /// The tree.
    pub template: TreeTemplate,
}

impl RawDrafter {
    pub(super) fn check(self) -> Result<DrafterChoice, Problem> {
        let preset =
            self.preset.as_deref().map(|preset| Preset::parse("drafter.preset", preset)).transpose()?;
        if let Some(preset) = preset {
            preset.check(&self)?;
        }
        let name = self.name.as_deref().unwrap_or(Preset::DRAFTER);
        let name = one_of("drafter.name", name, &["recycling", "mixed", "prompt-lookup", "none"])?;
        // Whoever drafts, what is written for recycling must be sound: the drafter may be changed on the command line.
        let k = self.k.unwrap_or(DEFAULT_K);
        if !(1..=MAX_RANKS).contains(&k) {
            return Err(out_of_range("drafter.k", &k, &format!("1 to {MAX_RANKS}")));
        }
        let tree = Tree::open(self.tree)?;
        let snapshot = self.snapshot.map(|path| writable_file("drafter.snapshot", path)).transpose()?;
        let budget = match preset {
            Some(Preset::Paper) => Budget::Nodes(tree.template.len()),
            None => Budget::check(self.budget, self.deterministic.unwrap_or_default(), self.costs)?,
        };
        let sources = SourceName::parse_all(self.sources)?;
        match name {
            "mixed" if budget.nodes() > Some(MAX_MIXED) => {
                let expected = format!("at most {MAX_MIXED} for the mixed drafter");
                return Err(out_of_range("drafter.budget", &budget, &expected));
            }
            "mixed" => return Ok(DrafterChoice::Mixed { budget, sources }),
            "none" => return Ok(DrafterChoice::None),
            "prompt-lookup" => return Ok(DrafterChoice::PromptLookup { budget }),
            _ => {}
        }
        let most = tree.template.len();
        if budget.nodes() > Some(most) {
            let expected = format!("at most {most}, the nodes of the tree {:?}", tree.template.name());
            return Err(out_of_range("drafter.budget", &budget, &expected));
        }
        Ok(DrafterChoice::Recycling(Recycling { preset, k, tree, budget, snapshot }))
    }
}

impl Tree {
    fn open(name: Option<String>) -> Result<Self, Problem> {
        let Some(name) = name.filter(|name| name != PAPER_80) else {
            return Ok(Self { path: None, template: TreeTemplate::paper_80() });
        };
        let key = "drafter.tree";
        let path = existing_file(key, PathBuf::from(&name)).map_err(|problem| match problem {
            Problem::NoSuchFile { key, path, hint } => {
                let hint = format!("{hint} (the built-in tree is `{PAPER_80}`)");
                Problem::NoSuchFile { key, path, hint }
            }
            problem => problem,
        })?;
        let read = std::fs::read_to_string(&path).map_err(TreeFileError::from);
        let template = read.and_then(|text| Ok(TreeTemplate::parse(&text)?));
        match template {
            Ok(template) => Ok(Self { path: Some(path), template }),
            Err(source) => Err(Problem::Tree { key, path, source }),
        }
    }
}
