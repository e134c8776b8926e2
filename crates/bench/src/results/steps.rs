//! Statistics of decoding steps.

use serde::{Deserialize, Serialize};

/// Statistics of the steps of one answer or of several.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Steps {
    /// Decoding steps.
    pub count: usize,
    /// Emitted tokens.
    pub emitted: usize,
    /// Draft nodes scored.
    pub drafted: usize,
    /// Accepted draft nodes.
    pub accepted: usize,
    /// The number of steps with n draft nodes, for n = 0, 1, 2, …
    #[serde(default)]
    pub nodes: Vec<u64>,
    /// Draft nodes by depth. The first entry is depth 1.
    pub drafted_by_depth: Vec<u64>,
    /// Accepted draft nodes by depth.
    pub accepted_by_depth: Vec<u64>,
    /// Draft nodes by source, if the drafter has several. A node proposed by several sources counts for each.
    pub sources: Vec<SourceCount>,
    /// Seconds by part.
    pub time: TimeSplit,
    /// Bytes of the drafter's tables.
    pub drafter_memory: u64,
}

/// Draft nodes of one source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceCount {
    /// The name of the source.
    pub name: String,
    /// Its draft nodes.
    pub drafted: u64,
    /// Its accepted draft nodes.
    pub accepted: u64,
}

/// Seconds of decoding by part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimeSplit {
    /// Drafting.
    pub draft: f64,
    /// The verifier's passes.
    pub forward: f64,
    /// Choosing tokens and accepted paths.
    pub accept: f64,
    /// Committing accepted paths.
    pub commit: f64,
    /// The drafter's learning.
    pub observe: f64,
}
