//! A view of the results: arms by setup, each with its summaries.

use crate::results::{Arm, ArmKind, ArmState, Estimate, Results, Summary};

use super::numbers::count;

/// The source of pages and tables. All references are valid, even if the results contain invalid indices.
#[derive(Debug)]
pub(crate) struct View<'a> {
    pub(crate) results: &'a Results,
    /// In order of their first arms.
    pub(crate) setups: Vec<SetupView<'a>>,
    /// Names of the groups, `[groups]`.
    pub(crate) groups: Vec<&'a str>,
    /// The warnings of the run and of the file itself.
    pub(crate) warnings: Vec<String>,
}

/// Arms that share an engine and a model file.
#[derive(Debug)]
pub(crate) struct SetupView<'a> {
    pub(crate) name: &'a str,
    pub(crate) arms: Vec<ArmView<'a>>,
}

/// An arm and its summaries.
#[derive(Debug)]
pub(crate) struct ArmView<'a> {
    pub(crate) arm: &'a Arm,
    /// Its name within its setup, such as `mixed:2`.
    pub(crate) label: &'a str,
    /// Over all prompts.
    pub(crate) overall: Option<&'a Summary>,
    /// `[groups]`.
    pub(crate) by_group: Vec<Option<&'a Summary>>,
}

/// Whether an interval shows a gain or a loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SpeedupVerdict {
    Faster,
    Slower,
    /// The interval contains 1.
    Unclear,
}

impl<'a> View<'a> {
    pub(crate) fn new(results: &'a Results) -> Self {
        let mut groups: Vec<&str> = Vec::new();
        let summarized = results.summaries.iter().filter_map(|summary| summary.group.as_deref());
        for group in results.settings.groups.iter().map(String::as_str).chain(summarized) {
            if !groups.contains(&group) {
                groups.push(group);
            }
        }
        let mut setups: Vec<SetupView<'_>> = Vec::new();
        for (index, arm) in results.arms.iter().enumerate() {
            let of = |group: Option<&str>| {
                results
                    .summaries
                    .iter()
                    .find(|summary| summary.arm == index && summary.group.as_deref() == group)
            };
            let view = ArmView {
                arm,
                label: label(arm),
                overall: of(None),
                by_group: groups.iter().map(|&group| of(Some(group))).collect(),
            };
            match setups.iter_mut().find(|setup| setup.name == arm.setup) {
                Some(setup) => setup.arms.push(view),
                None => setups.push(SetupView { name: &arm.setup, arms: vec![view] }),
            }
        }
        Self { results, setups, groups, warnings: warnings(results) }
    }

    pub(crate) fn arms(&self) -> impl Iterator<Item = &ArmView<'a>> {
        self.setups.iter().flat_map(|setup| &setup.arms)
    }

    /// Whether any arm was measured.
    pub(crate) fn is_measured(&self) -> bool {
        self.arms().any(|arm| arm.overall.is_some())
    }

    /// The name of the arm with this index.
    pub(crate) fn name(&self, arm: usize) -> &'a str {
        self.results.arms.get(arm).map_or("an arm that is not listed", |arm| arm.name.as_str())
    }

    /// The distinct drafters on our backends, in order of appearance.
    pub(crate) fn drafters(&self) -> Vec<&'a str> {
        let mut drafters: Vec<&str> = Vec::new();
        for arm in self.arms().filter(|arm| arm.arm.kind == ArmKind::Draft) {
            if !drafters.contains(&arm.arm.drafter.as_str()) {
                drafters.push(&arm.arm.drafter);
            }
        }
        drafters
    }

    /// The arms with wrong answers.
    pub(crate) fn wrong(&self) -> Vec<(&ArmView<'a>, &'a Summary)> {
        let summarized = self.arms().filter_map(|arm| Some((arm, arm.overall?)));
        summarized.filter(|(_, summary)| summary.equality.wrong > 0).collect()
    }
}

impl SetupView<'_> {
    /// The drafting arms with a speed-up over all prompts.
    pub(crate) fn drafts(&self) -> impl Iterator<Item = (&ArmView<'_>, Estimate)> {
        self.arms.iter().filter_map(|arm| Some((arm, arm.speedup()?)))
    }

    /// The candidates for the best arm: completely measured, and without wrong answers if there is any such arm.
    pub(crate) fn candidates(&self) -> Vec<(&ArmView<'_>, Estimate)> {
        let whole = |arm: &ArmView<'_>| arm.arm.state == ArmState::Measured;
        let (sound, wrong): (Vec<_>, Vec<_>) = self
            .drafts()
            .filter(|(arm, _)| whole(arm))
            .partition(|(arm, _)| arm.overall.is_some_and(|summary| summary.equality.wrong == 0));
        if sound.is_empty() { wrong } else { sound }
    }
}

impl ArmView<'_> {
    /// The speed-up over all prompts, if finite.
    pub(crate) fn speedup(&self) -> Option<Estimate> {
        self.overall?.speedup.filter(|speedup| speedup.value.is_finite())
    }

    /// Whether it is another program.
    pub(crate) fn is_peer(&self) -> bool {
        self.arm.kind.is_peer()
    }

    /// Whether it drafts.
    pub(crate) fn drafts(&self) -> bool {
        matches!(self.arm.kind, ArmKind::Draft | ArmKind::PeerDraft)
    }

    /// Its label, marked if it failed.
    pub(crate) fn marked(&self) -> String {
        match self.arm.state {
            ArmState::Failed { .. } => format!("{} (failed)", self.label),
            ArmState::Measured | ArmState::Absent { .. } => self.label.to_owned(),
        }
    }
}

impl SpeedupVerdict {
    pub(crate) fn from_speedup(speedup: Estimate) -> Self {
        match speedup {
            _ if speedup.low > 1.0 => Self::Faster,
            _ if speedup.high < 1.0 => Self::Slower,
            _ => Self::Unclear,
        }
    }
}

/// The arm's name without its setup.
fn label(arm: &Arm) -> &str {
    let rest = arm.name.strip_prefix(arm.setup.as_str()).map(str::trim_start);
    rest.filter(|rest| !rest.is_empty()).unwrap_or(&arm.name)
}

fn warnings(results: &Results) -> Vec<String> {
    let mut warnings = results.warnings.clone();
    let stray = |arm: usize| arm >= results.arms.len();
    let summaries = results.summaries.iter().filter(|summary| stray(summary.arm)).count();
    let records = results.records.iter().filter(|record| stray(record.arm)).count();
    if summaries + records > 0 {
        warnings.push(format!(
            "the results are damaged: {} and {} of unknown arms are left out; measure again",
            count(summaries, "summary", "summaries"),
            count(records, "record", "records"),
        ));
    }
    warnings
}
