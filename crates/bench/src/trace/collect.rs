//! Decodes a prompt and records every step.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use upcycle_core::{DecodeError, Decoder, Drafter, Request, Session, Times, TokenId, Verifier};
use upcycle_text::{Detokenizer, TextError, Tokenizer};

use super::label::label;
use super::record::{About, Ranked, SCHEMA, Trace, TraceStep, TracedPrompt};
use super::recording::{Recording, RecordingDrafter, thousandths};
use crate::results::TimeSplit;

/// Why there is no trace.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TraceError {
    /// The prompt cannot be decoded, or the backend failed.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The tokenizer lacks a token of the prompt or the answer.
    #[error("the tokenizer lacks a token of the model; check that `model.tokenizer` belongs to this model")]
    Text(#[from] TextError),
}

/// Decodes `prompt` and records every step. `watch` sees the session after each pass. If it breaks, the text ends with [`FinishReason::Cancelled`](upcycle_core::FinishReason::Cancelled).
///
/// # Errors
/// [`TraceError`]. The sequence is closed in any case.
pub fn collect<V: Verifier, D: Drafter>(
    decoder: &mut Decoder<V, RecordingDrafter<D>>,
    tokenizer: &Tokenizer,
    prompt: &[TokenId],
    request: Request,
    about: About,
    watch: &mut dyn FnMut(&Session) -> ControlFlow<()>,
) -> Result<Trace, TraceError> {
    let mut trace = Trace {
        schema: SCHEMA,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        about,
        greedy: request.sampling.needs_only_best(),
        k: decoder.drafter().inner().k(),
        sources: decoder.drafter().sources().into_iter().map(str::to_owned).collect(),
        labels: BTreeMap::new(),
        specials: BTreeSet::new(),
        prompt: read(tokenizer, prompt)?,
        steps: Vec::new(),
        rest: String::new(),
        finish: String::new(),
    };
    let mut session = decoder.open(prompt, request)?;
    tracing::debug!(tokens = prompt.len(), "tracing a prompt");
    let done = decode(decoder, &mut session, &mut trace, tokenizer.detokenizer(), watch);
    trace.finish = session.finish_reason().map_or("", upcycle_core::FinishReason::name).to_owned();
    decoder.close(session);
    done?;
    name_tokens(&mut trace, tokenizer);
    Ok(trace)
}

/// The prompt's tokens and the text of each.
fn read(tokenizer: &Tokenizer, tokens: &[TokenId]) -> Result<TracedPrompt, TextError> {
    let mut detokenizer = tokenizer.detokenizer();
    let mut texts = tokens
        .iter()
        .map(|&token| detokenizer.push(token).map(str::to_owned))
        .collect::<Result<Vec<_>, _>>()?;
    if let Some(last) = texts.last_mut() {
        last.push_str(detokenizer.finish());
    }
    Ok(TracedPrompt { tokens: tokens.to_vec(), texts, ..TracedPrompt::default() })
}

fn decode<V: Verifier, D: Drafter>(
    decoder: &mut Decoder<V, RecordingDrafter<D>>,
    session: &mut Session,
    trace: &mut Trace,
    mut detokenizer: Detokenizer,
    watch: &mut dyn FnMut(&Session) -> ControlFlow<()>,
) -> Result<(), TraceError> {
    while session.finish_reason().is_none() {
        let before = session.stats().time;
        let read = session.prefilled();
        decoder.step_one(session)?;
        let mut texts = Vec::with_capacity(session.new_tokens().len());
        for &token in session.new_tokens() {
            texts.push(detokenizer.push(token)?.to_owned());
        }
        if read < session.prompt_len() {
            let TracedPrompt { scored, ranked, sampled, text, seconds, .. } = &mut trace.prompt;
            let Recording { nodes, ranked: more } = decoder.drafter().last();
            scored.extend(nodes.iter().map(|node| read + node));
            ranked.width = more.width;
            ranked.ids.extend_from_slice(&more.ids);
            ranked.logits.extend_from_slice(&more.logits);
            *sampled = session.new_tokens().first().copied();
            *text = texts.concat();
            *seconds = session.stats().time.prefill.as_secs_f64();
        } else {
            let ranked = decoder.drafter().last().ranked.clone();
            let several = !trace.sources.is_empty();
            trace.steps.push(step(session, ranked, several, texts, before));
        }
        if watch(session).is_break() {
            session.cancel();
        }
    }
    detokenizer.finish().clone_into(&mut trace.rest);
    Ok(())
}

/// The last decoding step of `session`.
fn step(session: &Session, ranked: Ranked, several: bool, texts: Vec<String>, before: Times) -> TraceStep {
    let (tree, accepted, after) = (session.tree(), session.accepted_path(), session.stats().time);
    let since =
        |part: fn(&Times) -> std::time::Duration| part(&after).saturating_sub(part(&before)).as_secs_f64();
    TraceStep {
        tokens: tree.tokens().to_vec(),
        parents: tree.parents().to_vec(),
        probabilities: tree.nodes().map(|node| tree.probability(node).map(thousandths)).collect(),
        sources: if several { tree.source_bits().to_vec() } else { Vec::new() },
        ranked,
        path: accepted.nodes.iter().map(|node| node.index()).collect(),
        sampled: accepted.sampled.clone(),
        emitted: texts.len(),
        texts,
        seconds: TimeSplit {
            draft: since(|times| times.draft),
            forward: since(|times| times.forward),
            accept: since(|times| times.accept),
            commit: since(|times| times.commit),
            observe: since(|times| times.observe),
        },
    }
}

/// Adds the labels of all tokens.
fn name_tokens(trace: &mut Trace, tokenizer: &Tokenizer) {
    let Trace { labels, specials, prompt, steps, .. } = trace;
    let steps = steps.iter().flat_map(|step| step.tokens.iter().chain(&step.ranked.ids).chain(&step.sampled));
    for &token in prompt.tokens.iter().chain(&prompt.ranked.ids).chain(&prompt.sampled).chain(steps) {
        labels.entry(token).or_insert_with(|| {
            let (label, special) = label(tokenizer, token);
            if special {
                specials.insert(token);
            }
            label
        });
    }
}
