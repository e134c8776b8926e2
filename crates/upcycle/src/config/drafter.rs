//! `[drafter]`: the drafter, the size of its trees, and what it remembers.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use upcycle_core::mixed::{Corpus, RANKING_LEN};
use upcycle_core::{AutoBudget, CostCurve, Decoder, Drafter, RowSelection, Verifier};

use super::error::Problem;
use crate::drafters::{MixedOptions, RecyclingOptions, Tree};
use crate::options::{AnyOptions, Options};
use crate::parts::{BuildError, DrafterSetup};
use crate::registry::Registry;

/// `[drafter]`: the drafter, the size of its trees, and what it remembers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct DrafterConfig {
    /// Sets `name`, `budget`, `prompt_rows`, `recycling.k` and `recycling.tree` at once. Setting one of them to another value is
    /// an error.
    pub(super) preset: Option<Preset>,
    /// The drafter.
    pub(super) name: String,
    /// Draft nodes of a step: as many as save time on this machine (`auto`), or a number up to 512. 0 is plain decoding.
    pub(super) budget: Budget,
    /// With `budget = "auto"`: choose sizes only by saved costs, never by a clock. Runs are then
    /// repeatable.
    pub(super) deterministic: bool,
    /// With `budget = "auto"`: the costs of passes, in a file written by `upcycle bench cost`. Without it, passes are timed once
    /// and cached for the user.
    #[schemars(extend("path" = "file"))]
    pub(super) cost_file: Option<PathBuf>,
    /// The rows of a prompt that the drafter learns from. A number `n` means every n-th row.
    pub(super) prompt_rows: PromptRows,
    /// The file with the adjacency matrix: loaded at the start if it exists, saved at the end.
    #[schemars(extend("path" = "new-file"))]
    pub(super) snapshot: Option<PathBuf>,
    /// Whether `snapshot` is written at the end.
    pub(super) snapshot_mode: SnapshotMode,
    /// Whether the prompts of a run share what the drafter learns.
    pub(super) share_across_prompts: bool,
    /// A folder of texts that answers are likely to quote. It adds the source `corpus` to `mixed`.
    #[schemars(extend("path" = "corpus"))]
    pub(super) corpus_dir: Option<PathBuf>,
    #[serde(skip)]
    pub(super) options: BTreeMap<String, AnyOptions>,
    #[serde(skip)]
    pub(super) sources: BTreeMap<String, AnyOptions>,
}

impl Default for DrafterConfig {
    fn default() -> Self {
        Self {
            preset: None,
            name: "mixed".to_owned(),
            budget: Budget::Auto,
            deterministic: false,
            cost_file: None,
            prompt_rows: PromptRows::Last,
            snapshot: None,
            snapshot_mode: SnapshotMode::ReadWrite,
            share_across_prompts: true,
            corpus_dir: None,
            options: BTreeMap::new(),
            sources: BTreeMap::new(),
        }
    }
}

/// Whether a snapshot is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SnapshotMode {
    /// It is read at the start and written at the end.
    #[default]
    ReadWrite,
    /// It is only read, so that many processes can share it.
    ReadOnly,
}

/// A named setting of several keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// The setting of the Token Recycling paper: its static tree of 80 nodes, all of them at every step, k = 8.
    Paper,
}

impl Preset {
    /// The drafter of every preset.
    pub(super) const DRAFTER: &str = "recycling";

    /// The keys that `paper` sets, and their values.
    pub(super) fn values() -> [(&'static str, toml::Value); 5] {
        [
            ("drafter.name", Self::DRAFTER.into()),
            ("drafter.budget", 80.into()),
            ("drafter.prompt_rows", "last".into()),
            ("drafter.recycling.k", 8.into()),
            ("drafter.recycling.tree", Tree::PAPER_80.into()),
        ]
    }

    /// The name in the configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Paper => "paper",
        }
    }
}

/// Draft nodes of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Budget {
    /// As many as save time.
    #[default]
    Auto,
    /// At most this many.
    #[serde(untagged)]
    Nodes(#[schemars(range(max = 512))] usize),
}

impl Budget {
    /// The number, if it is one.
    #[must_use]
    pub fn nodes(self) -> Option<usize> {
        match self {
            Self::Auto => None,
            Self::Nodes(nodes) => Some(nodes),
        }
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Nodes(nodes) => write!(f, "{nodes}"),
        }
    }
}

/// The rows of a prompt that a drafter learns from. Ranking a row costs a matrix-vector product with the output head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PromptRows {
    /// The last row, which gives the first token.
    #[default]
    Last,
    /// Every row.
    All,
    /// As many evenly spaced rows as possible while prefill takes at most a tenth longer.
    Auto,
    /// Every n-th row.
    #[serde(untagged)]
    Every(NonZeroUsize),
}

impl PromptRows {
    /// The share of a prompt's time that ranking its rows may take.
    const SHARE: f64 = 0.1;
    /// The drafter learns too little from rows farther apart than this, so only the last row is ranked.
    const MAX_STRIDE: usize = 16;
    /// The stride if the costs are not known, as with a fixed budget.
    const DEFAULT_STRIDE: usize = 4;

    /// The rows, by the cost of ranking them.
    #[must_use]
    pub fn rows(self, costs: Option<&CostCurve>) -> RowSelection {
        let stride = match self {
            Self::Last => return RowSelection::Last,
            Self::All => 1,
            Self::Every(stride) => stride.get(),
            Self::Auto => match costs.and_then(CostCurve::prompt_ranking_overhead) {
                None => Self::DEFAULT_STRIDE,
                Some(share) => match (share / Self::SHARE).ceil() {
                    stride if stride > Self::MAX_STRIDE as f64 => return RowSelection::Last,
                    stride => stride as usize,
                },
            },
        };
        if stride <= 1 { RowSelection::All } else { RowSelection::Every(stride) }
    }
}

impl DrafterConfig {
    /// The name of the drafter.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether this is plain decoding.
    #[must_use]
    pub fn is_plain_decoding(&self) -> bool {
        self.name == "none"
    }

    /// The preset.
    #[must_use]
    pub fn preset(&self) -> Option<Preset> {
        self.preset
    }

    /// Draft nodes of a step.
    #[must_use]
    pub fn budget(&self) -> Budget {
        if self.is_plain_decoding() { Budget::Nodes(0) } else { self.budget }
    }

    /// Whether sizes come only from saved costs.
    #[must_use]
    pub fn deterministic(&self) -> bool {
        self.deterministic
    }

    /// The cost file.
    #[must_use]
    pub fn cost_file(&self) -> Option<&Path> {
        self.cost_file.as_deref()
    }

    /// The rows of a prompt that the drafter learns from.
    #[must_use]
    pub fn prompt_rows(&self) -> PromptRows {
        self.prompt_rows
    }

    /// The file that keeps what the drafter learned, if it learns.
    #[must_use]
    pub fn snapshot(&self) -> Option<&Path> {
        self.snapshot.as_deref().filter(|_| !["prompt-lookup", "none"].contains(&self.name()))
    }

    /// The file that keeps what the drafter learned, if it is to be written.
    #[must_use]
    pub fn written_snapshot(&self) -> Option<&Path> {
        self.snapshot().filter(|_| self.snapshot_mode == SnapshotMode::ReadWrite)
    }

    /// Whether the prompts of a run share what the drafter learns; otherwise each begins with empty tables.
    #[must_use]
    pub fn share_across_prompts(&self) -> bool {
        self.share_across_prompts
    }

    /// The folder of texts to copy from, if the drafter does.
    #[must_use]
    pub fn corpus_dir(&self) -> Option<&Path> {
        let copies = !["recycling", "prompt-lookup", "none"].contains(&self.name());
        self.corpus_dir.as_deref().filter(|_| copies)
    }

    /// The options of the chosen drafter, if they are of this type.
    #[must_use]
    pub fn options<O: Options>(&self) -> Option<&O> {
        self.options.get(&self.name)?.get()
    }

    /// The drafter, with empty tables, for a model of `vocab` tokens. `costs` are the costs of passes on this machine. `corpus` has
    /// the texts of `corpus_dir` ([`Text::corpus`](crate::Text::corpus)).
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn build(
        &self,
        registry: &Registry,
        vocab: usize,
        costs: Option<&CostCurve>,
        corpus: Option<&Arc<Corpus>>,
    ) -> Result<Box<dyn Drafter>, BuildError> {
        let setup = DrafterSetup {
            vocab,
            prompt_rows: self.prompt_rows.rows(costs),
            nodes: self.budget.nodes(),
            corpus,
            source: &|name, setup| registry.build_source(name, self.sources.get(name), setup),
        };
        registry.build_drafter(&self.name, self.options.get(&self.name), &setup)
    }

    /// Gives a decoder this budget. An automatic budget starts from the `saved` costs, or learns costs while it decodes. A
    /// deterministic budget without costs drafts nothing.
    #[must_use]
    pub fn apply_budget<V: Verifier, D: Drafter>(
        &self,
        decoder: Decoder<V, D>,
        saved: Option<CostCurve>,
    ) -> Decoder<V, D> {
        match (self.budget(), self.deterministic, saved) {
            (Budget::Nodes(nodes), ..) => decoder.with_budget(nodes),
            (Budget::Auto, false, saved) => decoder.with_auto_budget(AutoBudget::new(saved)),
            (Budget::Auto, true, Some(saved)) => decoder.with_auto_budget(AutoBudget::deterministic(saved)),
            (Budget::Auto, true, None) => decoder.with_budget(0),
        }
    }

    /// Checks what depends on more than one key.
    pub(super) fn check(&mut self) -> Result<(), Problem> {
        if !self.share_across_prompts && self.written_snapshot().is_some() {
            let expected = "true with drafter.snapshot, since false clears the tables before each prompt";
            return Err(Problem::out_of_range("drafter.share_across_prompts", &false, expected));
        }
        self.check_mixed()?;
        self.check_recycling()
    }

    fn check_mixed(&self) -> Result<(), Problem> {
        let Some(MixedOptions { sources, .. }) = self.options.get("mixed").and_then(AnyOptions::get) else {
            return Ok(());
        };
        let refused = |expected: &str| {
            Problem::out_of_range("drafter.mixed.sources", &format!("{sources:?}"), expected)
        };
        if sources.is_empty() {
            return Err(refused("at least one source"));
        }
        if (1..sources.len()).any(|index| sources[..index].contains(&sources[index])) {
            return Err(refused("each source once"));
        }
        let has = |name: &str| sources.iter().any(|source| source == name);
        if has("corpus") && self.corpus_dir.is_none() {
            return Err(refused("drafter.corpus_dir with the source `corpus`"));
        }
        if self.name == "mixed" && self.snapshot.is_some() && !has("adjacency") {
            return Err(refused("`adjacency` among them: drafter.snapshot saves its matrix"));
        }
        Ok(())
    }

    fn check_recycling(&self) -> Result<(), Problem> {
        let Some(RecyclingOptions { k, tree }) = self.options() else { return Ok(()) };
        match tree.template() {
            Some(template) if self.budget.nodes() > Some(template.len()) => {
                let expected =
                    format!("at most {}, the nodes of the tree {:?}", template.len(), template.name());
                Err(Problem::out_of_range("drafter.budget", &self.budget, &expected))
            }
            None if *k > RANKING_LEN => {
                let expected = format!("at most {RANKING_LEN} where drafter.recycling.tree is `auto`");
                Err(Problem::out_of_range("drafter.recycling.k", k, &expected))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranking_a_prompts_rows_takes_a_tenth_at_most() {
        let curve = || CostCurve::new(String::new(), vec![(0, vec![(1, 1.0)])]).unwrap();
        let rows = |share| PromptRows::Auto.rows(Some(&curve().with_prompt_ranking_overhead(share).unwrap()));
        assert_eq!(rows(0.0), RowSelection::All);
        assert_eq!(rows(0.1), RowSelection::All);
        assert_eq!(rows(0.11), RowSelection::Every(2));
        assert_eq!(rows(0.33), RowSelection::Every(4));
        assert_eq!(rows(1.6), RowSelection::Every(16));
        assert_eq!(rows(1.7), RowSelection::Last);
        assert_eq!(PromptRows::Auto.rows(Some(&curve())), RowSelection::Every(4), "never timed");
        assert_eq!(PromptRows::Last.rows(Some(&curve())), RowSelection::Last);
    }
}
