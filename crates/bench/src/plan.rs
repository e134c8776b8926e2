//! The plan of a run: everything needed to start it, or to resume it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use upcycle::{ConfigBuilder, ConfigError, Registry};

use crate::arm::{ArmError, ArmSpec};
use crate::results::InitialTables;

/// What a run measures. Saved in the run's folder, so that the run can be resumed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunPlan {
    /// The setups. Each is a configuration: one backend with one model.
    pub setups: Vec<SetupPlan>,
    /// The arms, as texts of [`ArmSpec`]. Peers are measured once for each of `peer_models`.
    pub arms: Vec<String>,
    /// The path of `llama-server`; without it peers are absent.
    pub llama_server: Option<PathBuf>,
    /// The models of the peers.
    pub peer_models: Vec<PathBuf>,
    /// The file of prompts; none for the built-in prompts.
    pub prompts: Option<PathBuf>,
    /// The most prompts of each group.
    pub per_group: Option<usize>,
    /// The most tokens of an answer.
    pub max_tokens: usize,
    /// The number of rounds.
    pub rounds: usize,
    /// 0 for greedy decoding.
    pub temperature: f32,
    /// The seed of sampling.
    pub seed: u64,
    /// The drafter's tables when a prompt begins.
    pub tables: InitialTables,
    /// The most seconds to wait before each round while other programs are busy.
    pub max_wait_seconds: u64,
}

/// One configuration of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetupPlan {
    /// Its name in the report.
    pub name: String,
    /// The path and text of its file; none if flags hold all settings.
    pub file: Option<(PathBuf, String)>,
    /// Settings from flags, as flag, key and value. They override `set`.
    pub flags: Vec<(String, String, String)>,
    /// Settings as `KEY=VALUE`. They override the environment and the file.
    pub set: Vec<String>,
}

impl SetupPlan {
    /// All settings: the file, then the environment, then flags.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn builder(&self, registry: &Registry) -> Result<ConfigBuilder, ConfigError> {
        let mut builder = ConfigBuilder::new(registry);
        if let Some((path, text)) = &self.file {
            builder.text(path, text)?;
        }
        builder.variables(std::env::vars_os())?;
        for assignment in &self.set {
            builder.assignment("--set", assignment)?;
        }
        for (flag, key, value) in &self.flags {
            builder.flag(flag, key, value)?;
        }
        Ok(builder)
    }
}

impl RunPlan {
    /// The parsed arms.
    ///
    /// # Errors
    /// [`ArmError`].
    pub fn arm_specs(&self) -> Result<Vec<ArmSpec>, ArmError> {
        ArmSpec::parse_list(&self.arms.join(","))
    }
}
