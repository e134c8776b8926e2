//! What an answer took, for programs and for people.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use upcycle_core::{Stats, TokenId};

use crate::answer::Answer;

/// The object of `--json`: times in seconds.
#[derive(Debug, Serialize)]
pub(crate) struct Report<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    question_id: Option<&'a Value>,
    text: &'a str,
    tokens: &'a [TokenId],
    prompt_tokens: usize,
    finish: &'static str,
    backend: &'a str,
    drafter: &'a str,
    stats: Numbers<'a>,
}

#[derive(Debug, Serialize)]
struct Numbers<'a> {
    steps: usize,
    drafted: usize,
    accepted_per_step: f64,
    accept_lengths: &'a [u32],
    tokens_per_second: f64,
    prefill_tokens_per_second: f64,
    time: Seconds,
    matrix_bytes: usize,
    matrix_rows: usize,
}

#[derive(Debug, Serialize)]
struct Seconds {
    prefill: f64,
    draft: f64,
    forward: f64,
    accept: f64,
    commit: f64,
    observe: f64,
}

impl<'a> Report<'a> {
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
            stats: Numbers {
                steps: stats.steps(),
                drafted: stats.drafted,
                accepted_per_step: stats.accepted_per_step(),
                accept_lengths: &stats.emitted,
                tokens_per_second: stats.tokens_per_second(),
                prefill_tokens_per_second: stats.prefill_tokens_per_second(),
                time: Seconds {
                    prefill: time.prefill.as_secs_f64(),
                    draft: time.draft.as_secs_f64(),
                    forward: time.forward.as_secs_f64(),
                    accept: time.accept.as_secs_f64(),
                    commit: time.commit.as_secs_f64(),
                    observe: time.observe.as_secs_f64(),
                },
                matrix_bytes: answer.footprint.bytes,
                matrix_rows: answer.footprint.rows,
            },
        }
    }
}

/// `--stats`.
pub(crate) fn for_people(answer: &Answer, (backend, drafter): (&str, &str)) -> String {
    let stats = &answer.stats;
    let time = &stats.time;
    let mut text = format!(
        "backend {backend}, drafter {drafter}, finish {}\n\
         prompt   {} tokens, {:.1} tokens/s\n\
         answer   {} tokens in {} steps, {:.1} tokens/s\n\
         accepted {:.3} tokens a step; {} nodes drafted, {} kept\n",
        answer.finish,
        answer.prompt_tokens,
        stats.prefill_tokens_per_second(),
        answer.tokens.len(),
        stats.steps(),
        stats.tokens_per_second(),
        stats.accepted_per_step(),
        stats.drafted,
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
    let _ = writeln!(text, "matrix   {} rows, {} bytes", answer.footprint.rows, answer.footprint.bytes);
    text
}

/// How many steps emitted how many tokens: `12 x 1, 7 x 2`.
fn histogram(stats: &Stats) -> String {
    let counts = stats.histogram();
    let parts: Vec<String> = counts
        .iter()
        .enumerate()
        .filter(|&(_, &steps)| steps > 0)
        .map(|(tokens, steps)| format!("{steps} x {tokens}"))
        .collect();
    if parts.is_empty() { "none".to_owned() } else { format!("{} (steps x tokens)", parts.join(", ")) }
}
