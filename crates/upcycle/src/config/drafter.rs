//! `[drafter]`: who guesses, and how much.

use std::fmt;
use std::path::{Path, PathBuf};

use upcycle_core::mixed::WIDTH;
use upcycle_core::template::MAX_RANKS;
use upcycle_core::{RowSelection, TreeTemplate};

use super::budget::Budget;
use super::choices::{existing_file, folder_of_texts, names, one_of, out_of_range, writable_file};
use super::error::{Problem, TreeFileError};
use super::prompt_rows::PromptRows;
use super::raw::{RawAmount, RawDrafter};

/// Candidates kept for each token where the configuration does not say: the paper's k.
pub const DEFAULT_K: usize = 8;

/// The name of the built-in tree.
pub const PAPER_80: &str = "paper-80";

/// The name of no tree in particular.
const AUTO_TREE: &str = "auto";

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
        ["drafter.name", "drafter.k", "drafter.tree", "drafter.budget", "drafter.prompt_rows"].contains(&key)
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
        let written = |amount: &Option<RawAmount>| {
            amount.clone().map(|amount| match amount {
                RawAmount::Number(number) => number.to_string(),
                RawAmount::Name(name) => name,
            })
        };
        differs("drafter.budget", written(&raw.budget), "80")?;
        differs("drafter.prompt_rows", written(&raw.prompt_rows), "last")
    }
}

/// Who drafts.
#[derive(Clone, Debug, PartialEq)]
pub enum DrafterChoice {
    /// Token Recycling.
    Recycling(Recycling),
    /// The most probable nodes of several sources, best first.
    Mixed(Mixed),
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
            DrafterChoice::Mixed(_) => "mixed",
            DrafterChoice::PromptLookup { .. } => "prompt-lookup",
            DrafterChoice::None => "none",
        }
    }

    /// Draft nodes for each step, at most.
    #[must_use]
    pub fn budget(&self) -> &Budget {
        match self {
            DrafterChoice::Recycling(recycling) => &recycling.budget,
            DrafterChoice::Mixed(mixed) => &mixed.budget,
            DrafterChoice::PromptLookup { budget } => budget,
            DrafterChoice::None => &Budget::Nodes(0),
        }
    }

    /// Candidates of each row of its matrix.
    #[must_use]
    pub fn k(&self) -> usize {
        match self {
            DrafterChoice::Recycling(recycling) => recycling.k,
            _ => DEFAULT_K,
        }
    }

    /// Where its matrix is read from, if the file is there, and kept afterwards.
    #[must_use]
    pub fn snapshot(&self) -> Option<&Path> {
        match self {
            DrafterChoice::Recycling(recycling) => recycling.snapshot.as_deref(),
            DrafterChoice::Mixed(mixed) => mixed.snapshot.as_deref(),
            DrafterChoice::PromptLookup { .. } | DrafterChoice::None => None,
        }
    }

    /// The folder of texts that it copies from.
    #[must_use]
    pub fn texts(&self) -> Option<&Path> {
        match self {
            DrafterChoice::Mixed(mixed) => mixed.texts.as_deref(),
            _ => None,
        }
    }
}

/// The settings of the mixed drafter.
#[derive(Clone, Debug, PartialEq)]
pub struct Mixed {
    /// Draft nodes for each step.
    pub budget: Budget,
    /// Who proposes them; none twice.
    pub sources: Vec<SourceName>,
    /// MiB of each table that is keyed by several tokens, 1 to 1024.
    pub table_mib: usize,
    /// The rows of a prompt that are learned from.
    pub prompt_rows: PromptRows,
    /// Where the matrix of its `recycling` is read from, if the file is there, and kept afterwards.
    pub snapshot: Option<PathBuf>,
    /// The folder of texts that its `texts` copies from: there if, and only if, that is among its sources.
    pub texts: Option<PathBuf>,
}

/// MiB of each table that is keyed by several tokens, where the configuration does not say.
pub const DEFAULT_TABLE_MIB: usize = 2;

/// The most of them: rows of earlier texts than fit there are of little use.
const MAX_TABLE_MIB: usize = 1024;

/// The most nodes that a drafter is asked for: past some hundreds no tree earns anything.
const MAX_NODES: usize = 512;

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
        TopKHistory = "runners-up",
        /// What the text says most often.
        Frequent = "frequent",
        /// What followed the longest match of the text's own end in a folder of the user's texts.
        Texts = "texts",
    }
}

impl SourceName {
    /// Those that are mixed where the configuration does not say; with a folder of texts, `texts` too.
    pub const DEFAULT: [Self; 5] =
        [Self::Recycling, Self::Bigram, Self::Trigram, Self::Suffix, Self::Frequent];

    /// The sources of these names, and `texts` where there is a folder for it.
    fn parse_all(names: Option<Vec<String>>, with_texts: bool) -> Result<Vec<Self>, Problem> {
        let names =
            names.unwrap_or_else(|| Self::DEFAULT.iter().map(|source| source.name().to_owned()).collect());
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
        match (sources.contains(&Self::Texts), with_texts) {
            (false, true) => sources.push(Self::Texts),
            (true, false) => {
                let expected = "drafter.texts beside the source `texts`: the folder that it copies from";
                return Err(out_of_range("drafter.sources", &format!("{names:?}"), expected));
            }
            _ => {}
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
    /// The rows of a prompt that are learned from.
    pub prompt_rows: PromptRows,
    /// Where the matrix is read from, if the file is there, and kept afterwards.
    pub snapshot: Option<PathBuf>,
}

/// Which trees are drafted.
#[derive(Clone, Debug, PartialEq)]
pub enum Tree {
    /// The most probable nodes, anew at each step.
    Auto,
    /// Those of a template that exist, the most valuable first.
    Template {
        /// Its file; none for the built-in tree of the paper.
        path: Option<PathBuf>,
        /// The tree.
        template: TreeTemplate,
    },
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
        let tree = match preset {
            Some(Preset::Paper) => Tree::paper(),
            None => Tree::open(self.tree)?,
        };
        let snapshot = self.snapshot.map(|path| writable_file("drafter.snapshot", path)).transpose()?;
        let budget = match preset {
            Some(Preset::Paper) => Budget::Nodes(tree.template().map_or(0, TreeTemplate::len)),
            None => Budget::check(self.budget, self.deterministic.unwrap_or_default(), self.costs)?,
        };
        if budget.nodes() > Some(MAX_NODES) {
            let expected = format!("at most {MAX_NODES}");
            return Err(out_of_range("drafter.budget", &budget, &expected));
        }
        let texts = self.texts.map(|path| folder_of_texts("drafter.texts", path)).transpose()?;
        let sources = SourceName::parse_all(self.sources, texts.is_some())?;
        // Rows of prompts teach the mixed drafter next to nothing, and the paper does without.
        let prompt_rows =
            PromptRows::check(self.prompt_rows)?.unwrap_or(PromptRows::Fixed(RowSelection::Last));
        let table_mib = self.table_mib.unwrap_or(DEFAULT_TABLE_MIB);
        if !(1..=MAX_TABLE_MIB).contains(&table_mib) {
            return Err(out_of_range("drafter.table_mib", &table_mib, &format!("1 to {MAX_TABLE_MIB}")));
        }
        match name {
            "mixed" if snapshot.is_some() && !sources.contains(&SourceName::Recycling) => {
                let expected = "`recycling` among them, whose matrix drafter.snapshot keeps";
                let names: Vec<_> = sources.iter().map(|source| source.name()).collect();
                return Err(out_of_range("drafter.sources", &format!("{names:?}"), expected));
            }
            "mixed" => {
                let mixed = Mixed { budget, sources, table_mib, prompt_rows, snapshot, texts };
                return Ok(DrafterChoice::Mixed(mixed));
            }
            "none" => return Ok(DrafterChoice::None),
            "prompt-lookup" => return Ok(DrafterChoice::PromptLookup { budget }),
            _ => {}
        }
        if let Some(template) = tree.template()
            && budget.nodes() > Some(template.len())
        {
            let (most, name) = (template.len(), template.name());
            let expected = format!("at most {most}, the nodes of the tree {name:?}");
            return Err(out_of_range("drafter.budget", &budget, &expected));
        }
        if tree == Tree::Auto && k > WIDTH {
            let expected = format!("at most {WIDTH} where drafter.tree is `{AUTO_TREE}`");
            return Err(out_of_range("drafter.k", &k, &expected));
        }
        Ok(DrafterChoice::Recycling(Recycling { preset, k, tree, budget, prompt_rows, snapshot }))
    }
}

impl Tree {
    fn paper() -> Self {
        Self::Template { path: None, template: TreeTemplate::paper_80() }
    }

    /// Whether this names a tree without a file.
    pub(super) fn is_name(text: &str) -> bool {
        [AUTO_TREE, PAPER_80].contains(&text)
    }

    /// The template, if it is one.
    #[must_use]
    pub fn template(&self) -> Option<&TreeTemplate> {
        match self {
            Self::Auto => None,
            Self::Template { template, .. } => Some(template),
        }
    }

    fn open(name: Option<String>) -> Result<Self, Problem> {
        let name = match name {
            Some(name) if name == PAPER_80 => return Ok(Self::paper()),
            Some(name) if name != AUTO_TREE => name,
            _ => return Ok(Self::Auto),
        };
        let key = "drafter.tree";
        let path = existing_file(key, PathBuf::from(&name)).map_err(|problem| match problem {
            Problem::NoSuchFile { key, path, hint } => {
                let hint = format!("{hint} (`{AUTO_TREE}` and the built-in tree `{PAPER_80}` need none)");
                Problem::NoSuchFile { key, path, hint }
            }
            problem => problem,
        })?;
        let read = std::fs::read_to_string(&path).map_err(TreeFileError::from);
        let template = read.and_then(|text| Ok(TreeTemplate::parse(&text)?));
        match template {
            Ok(template) => Ok(Self::Template { path: Some(path), template }),
            Err(source) => Err(Problem::Tree { key, path, source }),
        }
    }
}

impl fmt::Display for Tree {
    /// As it is written in a configuration.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str(AUTO_TREE),
            Self::Template { path: None, .. } => f.write_str(PAPER_80),
            Self::Template { path: Some(path), .. } => write!(f, "{}", path.display()),
        }
    }
}
