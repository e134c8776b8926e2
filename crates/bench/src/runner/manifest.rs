//! The identity of a run: a resumed run must match it.

use serde::{Deserialize, Serialize};

use crate::plan::RunPlan;
use crate::results::{Arm, Build};

/// The content of `run.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunManifest {
    /// The version of the format.
    pub schema: u32,
    /// When the run began, RFC 3339, UTC.
    pub started: String,
    /// The plan.
    pub plan: RunPlan,
    /// SHA-256 of the prompts.
    pub prompts_sha256: String,
    /// The program.
    pub build: Build,
    /// The processor.
    pub cpu: String,
    /// The arms when the run began.
    pub arms: Vec<Arm>,
}

impl RunManifest {
    /// What changed between this manifest and `now`; none if the run can be resumed.
    #[must_use]
    pub fn difference(&self, now: &RunManifest) -> Option<String> {
        let (before, after) = (self.arms.len(), now.arms.len());
        if before != after {
            return Some(format!("there were {before} arms when the run began, and there are {after} now"));
        }
        let mut pairs = self.fields().into_iter().zip(now.fields());
        let ((what, then), (_, now)) = pairs.find(|((_, then), (_, now))| then != now)?;
        Some(format!("{what} was {then:?} when the run began and is {now:?} now"))
    }

    /// Everything that must not change, as name and value.
    fn fields(&self) -> Vec<(String, &str)> {
        let revision = self.build.revision.as_deref().unwrap_or("unknown");
        let mut fields = vec![
            ("the processor".to_owned(), self.cpu.as_str()),
            ("the program's revision".to_owned(), revision),
            ("the build profile".to_owned(), &self.build.profile),
            ("the SHA-256 of the prompts".to_owned(), &self.prompts_sha256),
        ];
        for (index, arm) in self.arms.iter().enumerate() {
            let of = |what: &str| format!("the {what} of arm {:?}", arm.name);
            fields.extend([
                (format!("the name of arm {index}"), arm.name.as_str()),
                (of("configuration"), &arm.config),
                (of("model's SHA-256"), &arm.model_sha256),
                (of("engine version"), arm.engine_version.as_deref().unwrap_or_default()),
            ]);
        }
        fields
    }
}
