//! `drafter.budget`, and what an automatic one goes by.

use std::fmt;
use std::path::PathBuf;

use upcycle_core::{AutoBudget, CostCurve, Decoder, Drafter, Verifier};

use super::choices::{existing_file, out_of_range};
use super::error::Problem;
use super::raw::{RawAmount, RawDrafter};

/// The name of an automatic budget.
const AUTO: &str = "auto";

/// Draft nodes for each step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Budget {
    /// As many as pay, by what a pass costs and what the nodes promise; none where nothing pays.
    Auto {
        /// Sizes come from saved costs alone, never from a clock: the same on every run.
        deterministic: bool,
        /// The costs, as `upcycle bench cost` writes them; where none are named, those in the user's cache.
        costs: Option<PathBuf>,
    },
    /// This many, at most.
    Nodes(usize),
}

impl Default for Budget {
    fn default() -> Self {
        Self::Auto { deterministic: false, costs: None }
    }
}

impl Budget {
    pub(super) fn check(
        budget: Option<RawAmount>,
        deterministic: bool,
        costs: Option<PathBuf>,
    ) -> Result<Self, Problem> {
        // What is written for an automatic budget must be sound beside a number too, which may be a flag's.
        let costs = costs.map(|path| existing_file("drafter.costs", path)).transpose()?;
        match budget {
            Some(RawAmount::Number(nodes)) => Ok(Self::Nodes(nodes)),
            Some(RawAmount::Name(name)) if name != AUTO => {
                let expected = format!("a whole number, or {AUTO:?}");
                Err(out_of_range("drafter.budget", &format!("{name:?}"), &expected))
            }
            Some(RawAmount::Name(_)) | None => Ok(Self::Auto { deterministic, costs }),
        }
    }

    /// `decoder` with this budget. An automatic one starts from `saved` costs, or learns them while it decodes; a
    /// deterministic one without costs drafts nothing.
    #[must_use]
    pub fn apply<V: Verifier, D: Drafter>(
        &self,
        decoder: Decoder<V, D>,
        saved: Option<CostCurve>,
    ) -> Decoder<V, D> {
        match (self, saved) {
            (Self::Nodes(nodes), _) => decoder.with_budget(*nodes),
            (Self::Auto { deterministic: false, .. }, saved) => {
                decoder.with_auto_budget(AutoBudget::new(saved))
            }
            (Self::Auto { deterministic: true, .. }, Some(saved)) => {
                decoder.with_auto_budget(AutoBudget::deterministic(saved))
            }
            (Self::Auto { deterministic: true, .. }, None) => decoder.with_budget(0),
        }
    }

    /// The number, where it is one.
    #[must_use]
    pub fn nodes(&self) -> Option<usize> {
        match self {
            Self::Auto { .. } => None,
            Self::Nodes(nodes) => Some(*nodes),
        }
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto { .. } => f.write_str(AUTO),
            Self::Nodes(nodes) => write!(f, "{nodes}"),
        }
    }
}

impl RawDrafter {
    /// Writes a budget into the keys that say it.
    pub(super) fn set_budget(&mut self, budget: Budget) {
        match budget {
            Budget::Auto { deterministic, costs } => {
                self.budget = Some(RawAmount::Name(AUTO.to_owned()));
                (self.deterministic, self.costs) = (Some(deterministic), costs);
            }
            Budget::Nodes(nodes) => self.budget = Some(RawAmount::Number(nodes)),
        }
    }
}
