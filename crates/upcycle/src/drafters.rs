//! The drafters and sources of this workspace: their options, and how each is built.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use upcycle_core::mixed::{
    AdjacencySource, CandidateSource, CorpusMatcher, FrequentTokens, MixedDrafter, NgramCache, SuffixMatcher,
    TopKHistory,
};
use upcycle_core::{AdjacencyMatrix, Drafter, NullDrafter, PromptLookup, TokenRecycling, TreeTemplate};

use crate::options::NoOptions;
use crate::parts::{BoxError, DrafterSetup, SourceSetup};
use crate::registry::Registry;

/// Candidates kept for each token: the paper's k.
pub const DEFAULT_K: usize = 8;

/// `[drafter.recycling]`: the matrix and the trees of Token Recycling.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RecyclingOptions {
    /// Candidates kept for each token; at most 8 where `tree` is `auto`.
    #[schemars(range(min = 1, max = 32))]
    pub k: usize,
    /// The draft tree: the most probable nodes (`auto`), the paper's static tree (`paper-80`), or a file as in
    /// [configs/trees](../configs/trees).
    #[schemars(with = "String", extend("path" = "tree"))]
    pub tree: Tree,
}

impl Default for RecyclingOptions {
    fn default() -> Self {
        Self { k: DEFAULT_K, tree: Tree::Auto }
    }
}

/// Which trees Token Recycling drafts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Tree {
    /// The most probable nodes, chosen at each step.
    Auto,
    /// Nodes of a template, the most probable first.
    Template {
        /// Its file; `None` for the paper's tree.
        path: Option<PathBuf>,
        /// The tree.
        template: TreeTemplate,
    },
}

impl Tree {
    /// The name that stands for the most probable nodes.
    const AUTO: &str = "auto";
    /// The name of the paper's tree.
    pub const PAPER_80: &str = "paper-80";

    /// Whether this is a built-in name and not a file.
    pub(crate) fn is_name(text: &str) -> bool {
        [Self::AUTO, Self::PAPER_80].contains(&text)
    }

    /// The template, if it is one.
    #[must_use]
    pub fn template(&self) -> Option<&TreeTemplate> {
        match self {
            Self::Auto => None,
            Self::Template { template, .. } => Some(template),
        }
    }
}

impl TryFrom<String> for Tree {
    type Error = BoxError;

    fn try_from(name: String) -> Result<Self, BoxError> {
        Ok(match name.as_str() {
            Self::AUTO => Self::Auto,
            Self::PAPER_80 => Self::Template { path: None, template: TreeTemplate::paper_80() },
            _ => {
                let template = TreeTemplate::parse(&std::fs::read_to_string(&name)?)?;
                Self::Template { path: Some(name.into()), template }
            }
        })
    }
}

impl From<Tree> for String {
    fn from(tree: Tree) -> Self {
        tree.to_string()
    }
}

impl fmt::Display for Tree {
    /// As it is written in a configuration.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str(Self::AUTO),
            Self::Template { path: None, .. } => f.write_str(Self::PAPER_80),
            Self::Template { path: Some(path), .. } => write!(f, "{}", path.display()),
        }
    }
}

/// `[drafter.mixed]`: the most probable nodes of several sources.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MixedOptions {
    /// The sources that propose nodes.
    pub sources: Vec<String>,
    /// MiB of each n-gram table.
    #[schemars(range(min = 1, max = 1024))]
    pub table_mib: usize,
}

impl Default for MixedOptions {
    fn default() -> Self {
        let sources = ["adjacency", "last-2", "last-3", "suffix", "frequent"];
        Self { sources: sources.map(str::to_owned).to_vec(), table_mib: 2 }
    }
}

/// Prompt lookup matches at most this many tokens, as the original does.
const MAX_NGRAM: NonZeroUsize = NonZeroUsize::MIN.saturating_add(2);

/// Tokens that prompt lookup drafts with an automatic budget, which then chooses how many of them are scored.
const AUTO_BUDGET_DRAFT_LEN: usize = 16;

/// Registers the drafters and sources of this workspace.
pub(crate) fn register(registry: &mut Registry) {
    registry.register_drafter("recycling", "the matrix of the Token Recycling paper", recycling);
    registry.register_drafter("mixed", "the most probable nodes of several sources", mixed);
    registry.register_drafter(
        "prompt-lookup",
        "a chain copied from the prompt and the output",
        |_: &NoOptions, setup| {
            Ok(Box::new(PromptLookup::new(MAX_NGRAM, setup.nodes.unwrap_or(AUTO_BUDGET_DRAFT_LEN))))
        },
    );
    registry.register_drafter("none", "plain decoding", |_: &NoOptions, _| Ok(Box::new(NullDrafter)));

    source(registry, "adjacency", "the model's last ranking after the same token", |setup| {
        Ok(Box::new(AdjacencySource::new(AdjacencyMatrix::new(setup.vocab, DEFAULT_K)?)))
    });
    source(registry, "last-2", "the model's last ranking after the same two tokens", |setup| {
        Ok(Box::new(NgramCache::new(2, setup.table_bytes)))
    });
    source(registry, "last-3", "the model's last ranking after the same three tokens", |setup| {
        Ok(Box::new(NgramCache::new(3, setup.table_bytes)))
    });
    source(registry, "suffix", "the continuation of the longest suffix match in prompt and output", |_| {
        Ok(Box::new(SuffixMatcher::default()))
    });
    source(registry, "top-k-history", "tokens that the model ranked high one to three tokens ago", |_| {
        Ok(Box::new(TopKHistory::default()))
    });
    source(registry, "frequent", "the tokens sampled most often so far", |setup| {
        Ok(Box::new(FrequentTokens::new(setup.vocab)))
    });
    source(
        registry,
        "corpus",
        "the continuation of the longest suffix match in `drafter.corpus_dir`",
        |setup| {
            let corpus = setup.corpus.ok_or("it copies from a corpus: set drafter.corpus_dir")?;
            Ok(Box::new(CorpusMatcher::new(Arc::clone(corpus))))
        },
    );
}

fn source(
    registry: &mut Registry,
    name: &str,
    about: &str,
    build: fn(SourceSetup<'_>) -> Result<Box<dyn CandidateSource>, BoxError>,
) {
    registry.register_source(name, about, move |_: &NoOptions, setup| build(setup));
}

fn recycling(options: &RecyclingOptions, setup: &DrafterSetup<'_>) -> Result<Box<dyn Drafter>, BoxError> {
    let matrix = AdjacencyMatrix::new(setup.vocab, options.k)?;
    Ok(match &options.tree {
        Tree::Auto => {
            let drafter = MixedDrafter::new(vec![Box::new(AdjacencySource::new(matrix))]);
            Box::new(drafter.with_prompt_rows(setup.prompt_rows))
        }
        Tree::Template { template, .. } => {
            Box::new(TokenRecycling::new(matrix, template.clone()).with_prompt_rows(setup.prompt_rows))
        }
    })
}

fn mixed(options: &MixedOptions, setup: &DrafterSetup<'_>) -> Result<Box<dyn Drafter>, BoxError> {
    let mut names: Vec<&str> = options.sources.iter().map(String::as_str).collect();
    // A configured corpus is always used.
    if setup.corpus.is_some() && !names.contains(&"corpus") {
        names.push("corpus");
    }
    let sources = names.into_iter().map(|name| setup.source(name, options.table_mib << 20));
    let drafter = MixedDrafter::new(sources.collect::<Result<_, _>>()?);
    Ok(Box::new(drafter.with_prompt_rows(setup.prompt_rows)))
}
