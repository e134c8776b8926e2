//! Statistics of an answer, as JSON and as text.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use upcycle_core::{Reliability, Stats, TokenId};

use crate::answer::{Answer, BudgetStats};

/// The JSON object of `--json`. Times are in seconds.
#[derive(Debug, Serialize)]
pub(crate) struct AnswerJson<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    question_id: Option<&'a Value>,
    text: &'a str,
    tokens: &'a [TokenId],
    prompt_tokens: usize,
    finish: &'static str,
    backend: &'a str,
    drafter: &'a str,
    stats: StatsJson<'a>,
}

#[derive(Debug, Serialize)]
struct StatsJson<'a> {
    steps: usize,
    drafted: usize,
    accepted: usize,
    drafted_per_step: f64,
    tokens_per_step: f64,
    tokens_by_step: &'a [u32],
    drafted_by_step: &'a [u32],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    sources: Vec<SourceStats>,
    tokens_per_second: f64,
    prefill_tokens_per_second: f64,
    time: TimesJson,
    matrix_bytes: usize,
    matrix_rows: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    budget: Option<BudgetJson>,
}

/// Draft nodes of one source.
#[derive(Debug, Serialize)]
struct SourceStats {
    name: &'static str,
    drafted: u64,
    accepted: u64,
    accepted_per_node: f64,
}

/// Statistics of the automatic budget.
#[derive(Debug, Serialize)]
struct BudgetJson {
    trials: f64,
    reliability: Vec<ReliabilityBin>,
}

/// Nodes with about the same predicted acceptance rate.
#[derive(Debug, Serialize)]
struct ReliabilityBin {
    tested: u64,
    predicted: f64,
    accepted: f64,
}

#[derive(Debug, Serialize)]
struct TimesJson {
    prefill: f64,
    draft: f64,
    forward: f64,
    accept: f64,
    commit: f64,
    observe: f64,
}

impl<'a> AnswerJson<'a> {
    pub(crate) fn new(
        answer: &'a Answer,
        (backend, drafter): (&'a str, &'a str),
        question_id: Option<&'a Value>,
    ) -> Self {
        let stats = &answer.stats;
        let time = &stats.time;
        Self {
            question_id,
            text: &answer.text,
            tokens: &answer.tokens,
            prompt_tokens: answer.prompt_tokens,
            finish: answer.finish.name(),
            backend,
            drafter,
            stats: StatsJson {
                steps: stats.steps(),
                drafted: stats.drafted,
                accepted: stats.accepted,
                drafted_per_step: stats.drafted_per_step(),
                tokens_per_step: stats.tokens_per_step(),
                tokens_by_step: &stats.emitted_per_step,
                drafted_by_step: &stats.nodes_per_step,
                sources: sources(answer),
                tokens_per_second: stats.tokens_per_second(),
                prefill_tokens_per_second: stats.prefill_tokens_per_second(),
                time: TimesJson {
                    prefill: time.prefill.as_secs_f64(),
                    draft: time.draft.as_secs_f64(),
                    forward: time.forward.as_secs_f64(),
                    accept: time.accept.as_secs_f64(),
                    commit: time.commit.as_secs_f64(),
                    observe: time.observe.as_secs_f64(),
                },
                matrix_bytes: answer.footprint.bytes,
                matrix_rows: answer.footprint.filled_matrix_rows,
                budget: answer.budget.as_ref().map(|budget| BudgetJson {
                    trials: budget.trials,
                    reliability: measured_bins(budget)
                        .map(|&Reliability { tested, predicted, accepted }| ReliabilityBin {
                            tested,
                            predicted,
                            accepted,
                        })
                        .collect(),
                }),
            },
        }
    }
}

/// Draft nodes by source; empty if the drafter has one source.
fn sources(answer: &Answer) -> Vec<SourceStats> {
    let counts = answer.stats.drafted_by_source.iter().zip(&answer.stats.accepted_by_source);
    let source = |(&name, (&drafted, &accepted)): (&&'static str, _)| SourceStats {
        name,
        drafted,
        accepted,
        accepted_per_node: accepted as f64 / u64::max(drafted, 1) as f64,
    };
    answer.sources.iter().zip(counts).map(source).collect()
}

/// The bins with at least one tested node.
fn measured_bins(budget: &BudgetStats) -> impl Iterator<Item = &Reliability> {
    budget.reliability.iter().filter(|bin| bin.tested > 0)
}

/// `--stats`.
pub(crate) fn to_text(answer: &Answer, (backend, drafter): (&str, &str)) -> String {
    let stats = &answer.stats;
    let time = &stats.time;
    let mut text = format!(
        "backend {backend}, drafter {drafter}, finish {}\n\
         prompt   {} tokens, {:.1} tokens/s\n\
         answer   {} tokens in {} steps, {:.1} tokens/s\n\
         drafts   {:.3} tokens a step; {} nodes drafted ({:.2} a step), {} accepted\n",
        answer.finish,
        answer.prompt_tokens,
        stats.prefill_tokens_per_second(),
        answer.tokens.len(),
        stats.steps(),
        stats.tokens_per_second(),
        stats.tokens_per_step(),
        stats.drafted,
        stats.drafted_per_step(),
        stats.accepted,
    );
    let _ = writeln!(text, "steps    {}", histogram(stats));
    let share =
        |part: Duration| 100.0 * part.as_secs_f64() / time.decode().as_secs_f64().max(f64::MIN_POSITIVE);
    let _ = writeln!(
        text,
        "time     {:.3} s: forward {:.1} %, draft {:.2} %, observe {:.2} %, commit {:.2} %, accept {:.2} %",
        time.decode().as_secs_f64(),
        share(time.forward),
        share(time.draft),
        share(time.observe),
        share(time.commit),
        share(time.accept),
    );
    let _ = writeln!(
        text,
        "matrix   {} rows, {} bytes",
        answer.footprint.filled_matrix_rows, answer.footprint.bytes
    );
    let sources: Vec<String> = sources(answer)
        .iter()
        .map(|source| format!("{} {}/{}", source.name, source.accepted, source.drafted))
        .collect();
    if !sources.is_empty() {
        let _ = writeln!(text, "sources  {} (accepted/drafted)", sources.join(", "));
    }
    if let Some(budget) = &answer.budget {
        let bins: Vec<String> = measured_bins(budget)
            .map(|bin| format!("{:.2}->{:.2} ({})", bin.predicted, bin.accepted, bin.tested))
            .collect();
        let _ = writeln!(text, "rates    {} (predicted->accepted, nodes tested)", bins.join(", "));
        let _ = writeln!(text, "trials   {:.1} % of the passes", 100.0 * budget.trials);
    }
    text
}

/// The number of steps by tokens emitted: `12 x 1, 7 x 2`.
fn histogram(stats: &Stats) -> String {
    let counts = stats.emitted_histogram();
    let parts: Vec<String> = counts
        .iter()
        .enumerate()
        .filter(|&(_, &steps)| steps > 0)
        .map(|(tokens, steps)| format!("{steps} x {tokens}"))
        .collect();
    if parts.is_empty() { "none".to_owned() } else { format!("{} (steps x tokens)", parts.join(", ")) }
}
