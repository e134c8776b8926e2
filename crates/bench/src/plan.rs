//! What a run is to measure: all that it takes to begin one, and to go on with one that was stopped.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use upcycle::{ConfigError, Layers};

use crate::arm::ArmSpec;
use crate::results::{Arm, Build, MatrixState};

/// A run, before anything is loaded. Kept in the run's folder, so that it can be resumed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The configurations; each is one engine with one model.
    pub setups: Vec<SetupPlan>,
    /// What is measured of each, as [`ArmSpec`]s; peers among them once for each of `peer_models`.
    pub arms: Vec<String>,
    /// The program of llama.cpp that serves; peers are absent without it.
    pub llama_server: Option<PathBuf>,
    /// The models that peers run.
    pub peer_models: Vec<PathBuf>,
    /// The file of prompts; none for the built-in set.
    pub prompts: Option<PathBuf>,
    /// At most this many prompts of each group.
    pub per_group: Option<usize>,
    /// Tokens of an answer, at most.
    pub max_tokens: usize,
    /// How often everything is measured.
    pub rounds: usize,
    /// 0 for greedy decoding.
    pub temperature: f32,
    /// The seed of sampling.
    pub seed: u64,
    /// What a drafter knows when a prompt begins.
    pub matrix: MatrixState,
    /// How many seconds to wait for a busy machine to become quiet before each round.
    pub patience: u64,
}

/// One configuration of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetupPlan {
    /// What it is called in the report.
    pub name: String,
    /// Its file, and the text of it; none where flags say all.
    pub file: Option<(PathBuf, String)>,
    /// Settings on top of it, as flag, key and value.
    pub flags: Vec<(String, String, String)>,
    /// Settings below these, as `KEY=VALUE`.
    pub set: Vec<String>,
}

/// What a folder of a run says of it: a resumption must find the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Begun {
    /// The version of the format.
    pub schema: u32,
    /// When it began, RFC 3339, UTC.
    pub started: String,
    /// The plan.
    pub plan: Plan,
    /// SHA-256 of the prompts.
    pub prompts_sha256: String,
    /// What measured.
    pub build: Build,
    /// The processor.
    pub cpu: String,
    /// The arms, as they were when the run began.
    pub arms: Vec<Arm>,
}

impl SetupPlan {
    /// The settings, with those of the environment between the file and the flags.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn layers(&self) -> Result<Layers, ConfigError> {
        let mut layers = Layers::new();
        if let Some((path, text)) = &self.file {
            layers.text(path, text)?;
        }
        layers.variables(std::env::vars_os())?;
        for assignment in &self.set {
            layers.assignment("--set", assignment)?;
        }
        for (flag, key, value) in &self.flags {
            layers.flag(flag, key, value)?;
        }
        Ok(layers)
    }
}

impl Begun {
    /// Why a run that is `now` planned and prepared is not the one that was begun; none if it is.
    #[must_use]
    pub fn differs(&self, now: &Begun) -> Option<String> {
        let differs = |what: &str, then: &str, now: &str| {
            (then != now).then(|| format!("{what} was {then:?} when the run began and is {now:?} now"))
        };
        let revision = |begun: &Begun| begun.build.revision.clone().unwrap_or_else(|| "unknown".to_owned());
        differs("the processor", &self.cpu, &now.cpu)
            .or_else(|| differs("the program's revision", &revision(self), &revision(now)))
            .or_else(|| differs("the build profile", &self.build.profile, &now.build.profile))
            .or_else(|| differs("the SHA-256 of the prompts", &self.prompts_sha256, &now.prompts_sha256))
            .or_else(|| {
                (self.arms.len() != now.arms.len()).then(|| {
                    format!("there were {} arms and there are {} now", self.arms.len(), now.arms.len())
                })
            })
            .or_else(|| {
                let mut pairs = self.arms.iter().zip(&now.arms);
                pairs.find_map(|(then, now)| {
                    let of = |what: &str| format!("the {what} of arm {:?}", then.name);
                    let config = || differs(&of("configuration"), &then.config, &now.config);
                    let model = || differs(&of("model's SHA-256"), &then.model_sha256, &now.model_sha256);
                    let version = |arm: &Arm| arm.engine_version.clone().unwrap_or_default();
                    let engine = || differs(&of("engine"), &version(then), &version(now));
                    differs("an arm's name", &then.name, &now.name)
                        .or_else(config)
                        .or_else(model)
                        .or_else(engine)
                })
            })
    }
}

/// The arms of a plan, read.
///
/// # Errors
/// [`crate::arm::ArmError`].
pub fn arms(plan: &Plan) -> Result<Vec<ArmSpec>, crate::arm::ArmError> {
    ArmSpec::parse_list(&plan.arms.join(","))
}

/// The file name of a model, for reports: no folder of the machine belongs into them.
#[must_use]
pub fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}
