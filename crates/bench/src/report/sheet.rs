//! `results.csv`.

use crate::results::{ArmKind, ArmState, Estimate, Prediction, Steps, Summary};

use super::ReportError;
use super::view::{ArmView, View};

/// A row: an arm over the prompts of a group, or of all. An arm without any figure has one row too.
struct Line<'a> {
    arm: &'a ArmView<'a>,
    group: Option<&'a str>,
    summary: Option<&'a Summary>,
}

type Column = (&'static str, fn(&Line<'_>) -> Option<String>);

const COLUMNS: &[Column] = &[
    ("arm", |line| Some(line.arm.arm.name.clone())),
    ("group", |line| Some(line.group.unwrap_or("all").to_owned())),
    ("state", |line| Some(state(&line.arm.arm.state).to_owned())),
    ("kind", |line| Some(kind(line.arm.arm.kind).to_owned())),
    ("setup", |line| Some(line.arm.arm.setup.clone())),
    ("engine", |line| Some(line.arm.arm.engine.clone())),
    ("engine_version", |line| line.arm.arm.engine_version.clone()),
    ("model", |line| Some(line.arm.arm.model.clone())),
    ("model_sha256", |line| Some(line.arm.arm.model_sha256.clone())),
    ("drafter", |line| Some(line.arm.arm.drafter.clone())),
    ("nodes", |line| line.arm.arm.nodes.map(whole)),
    ("threads", |line| line.arm.arm.threads.map(whole)),
    ("prompts", |line| of(line, |summary| Some(whole(summary.prompts)))),
    ("speedup", |line| speedup(line, |speedup| speedup.value)),
    ("speedup_low", |line| speedup(line, |speedup| speedup.low)),
    ("speedup_high", |line| speedup(line, |speedup| speedup.high)),
    ("tokens_per_second", |line| of(line, |summary| real(summary.tokens_per_second.value))),
    ("tokens_per_second_low", |line| of(line, |summary| real(summary.tokens_per_second.low))),
    ("tokens_per_second_high", |line| of(line, |summary| real(summary.tokens_per_second.high))),
    ("prefill_tokens_per_second", |line| of(line, |summary| real(summary.prefill_tokens_per_second))),
    ("first_token_seconds", |line| of(line, |summary| real(summary.first_token_seconds))),
    ("tokens_per_step", |line| of(line, |summary| real(summary.tokens_per_step?))),
    ("nodes_per_step", |line| of(line, |summary| real(summary.nodes_per_step?))),
    ("drafting_share", |line| of(line, |summary| real(summary.drafting_share?))),
    ("peak_memory", |line| of(line, |summary| Some(summary.peak_memory?.to_string()))),
    ("drafter_memory", |line| steps(line, |steps| Some(steps.drafter_memory.to_string()))),
    ("steps", |line| steps(line, |steps| Some(whole(steps.count)))),
    ("emitted", |line| steps(line, |steps| Some(whole(steps.emitted)))),
    ("drafted", |line| steps(line, |steps| Some(whole(steps.drafted)))),
    ("accepted", |line| steps(line, |steps| Some(whole(steps.accepted)))),
    ("drafted_by_depth", |line| steps(line, |steps| Some(list(&steps.drafted_by_depth)))),
    ("accepted_by_depth", |line| steps(line, |steps| Some(list(&steps.accepted_by_depth)))),
    ("sources", |line| steps(line, |steps| Some(sources(steps)))),
    ("draft_seconds", |line| steps(line, |steps| real(steps.time.draft))),
    ("forward_seconds", |line| steps(line, |steps| real(steps.time.forward))),
    ("accept_seconds", |line| steps(line, |steps| real(steps.time.accept))),
    ("commit_seconds", |line| steps(line, |steps| real(steps.time.commit))),
    ("observe_seconds", |line| steps(line, |steps| real(steps.time.observe))),
    ("exact", |line| of(line, |summary| Some(whole(summary.equality.exact)))),
    ("within_margin", |line| of(line, |summary| Some(whole(summary.equality.within_margin)))),
    ("wrong", |line| of(line, |summary| Some(whole(summary.equality.wrong)))),
    ("differs", |line| of(line, |summary| Some(whole(summary.equality.differs)))),
    ("unknown", |line| of(line, |summary| Some(whole(summary.equality.unknown)))),
    ("predicted_nodes", |line| predicted(line, |prediction| prediction.nodes.map(whole))),
    ("predicted_tokens_per_step", |line| predicted(line, |prediction| real(prediction.tokens_per_step))),
    ("predicted_cost_ratio", |line| predicted(line, |prediction| real(prediction.cost_ratio))),
    ("predicted_quotient", |line| predicted(line, |prediction| real(prediction.quotient))),
    ("predicted_measured", |line| predicted(line, |prediction| real(prediction.measured))),
    ("factor_trees", |line| predicted(line, |prediction| real(prediction.trees))),
    ("factor_passes", |line| predicted(line, |prediction| real(prediction.passes))),
    ("factor_overhead", |line| predicted(line, |prediction| real(prediction.overhead))),
    ("gap_explained", |line| predicted(line, |prediction| prediction.explanation.clone())),
];

/// The whole file, with its header.
pub(crate) fn render(view: &View<'_>) -> Result<Vec<u8>, ReportError> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(COLUMNS.iter().map(|(name, _)| name))?;
    for arm in view.arms() {
        write(&mut writer, &Line { arm, group: None, summary: arm.overall })?;
        for (&group, &summary) in view.groups.iter().zip(&arm.by_group) {
            if summary.is_some() {
                write(&mut writer, &Line { arm, group: Some(group), summary })?;
            }
        }
    }
    writer.into_inner().map_err(|error| ReportError::Csv(error.into_error().into()))
}

fn write(writer: &mut csv::Writer<Vec<u8>>, line: &Line<'_>) -> Result<(), ReportError> {
    Ok(writer.write_record(COLUMNS.iter().map(|(_, cell)| cell(line).unwrap_or_default()))?)
}

fn of(line: &Line<'_>, figure: impl Fn(&Summary) -> Option<String>) -> Option<String> {
    figure(line.summary?)
}

fn steps(line: &Line<'_>, figure: impl Fn(&Steps) -> Option<String>) -> Option<String> {
    figure(line.summary?.steps.as_ref()?)
}

fn predicted(line: &Line<'_>, figure: impl Fn(&Prediction) -> Option<String>) -> Option<String> {
    figure(line.summary?.prediction.as_ref()?)
}

fn speedup(line: &Line<'_>, figure: impl Fn(&Estimate) -> f64) -> Option<String> {
    real(figure(&line.summary?.speedup?))
}

fn whole(value: usize) -> String {
    value.to_string()
}

/// To the last bit; no cell for what is not a number.
fn real(value: f64) -> Option<String> {
    value.is_finite().then(|| value.to_string())
}

/// By depth, separated by spaces.
fn list(counts: &[u64]) -> String {
    counts.iter().map(u64::to_string).collect::<Vec<_>>().join(" ")
}

/// `recycling 120/900`: accepted of drafted, separated by semicolons.
fn sources(steps: &Steps) -> String {
    let source = steps.sources.iter().map(|s| format!("{} {}/{}", s.name, s.accepted, s.drafted));
    source.collect::<Vec<_>>().join("; ")
}

fn state(state: &ArmState) -> &'static str {
    match state {
        ArmState::Measured => "measured",
        ArmState::Absent { .. } => "absent",
        ArmState::Failed { .. } => "failed",
    }
}

fn kind(kind: ArmKind) -> &'static str {
    match kind {
        ArmKind::Plain => "plain",
        ArmKind::Draft => "draft",
        ArmKind::PeerPlain => "peer-plain",
        ArmKind::PeerDraft => "peer-draft",
    }
}
