//! Law 10: the text, whatever was drafted.

use upcycle_core::{
    AdjacencyMatrix, DecodeError, Decoder, Drafter, Margin, NullDrafter, PromptLookup, Request, Row,
    Sampling, SamplingConfig, Session, TokenId, TokenRecycling, TreeTemplate, Verifier,
};

use crate::drafters::{AdversarialDrafter, OracleDrafter, RandomDrafter};
use crate::law::{Broken, Cause, Law};
use crate::probe::{Checked, Probe};
use crate::subject::{Subject, Tolerance};

/// How far law 10 held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Agreement {
    /// Texts compared.
    pub texts: usize,
    /// Tokens found equal.
    pub tokens: usize,
    /// Texts that part from the plain one within the margin: where the plain run's two best scores are closer than
    /// what the two passes differ by there. Always 0 for an exact subject.
    pub within_margin: usize,
}

impl Agreement {
    fn add(&mut self, other: Agreement) {
        self.texts += other.texts;
        self.tokens += other.tokens;
        self.within_margin += other.within_margin;
    }
}

/// One text to decode, and what plain decoding makes of it.
struct Case {
    prompt: Vec<TokenId>,
    sampling: Sampling,
    plain: Vec<TokenId>,
}

/// Where a drafted text parts from the plain one, and the row it was drawn from.
struct Parting {
    case: usize,
    at: usize,
    logits: Vec<f32>,
}

/// Law 10 for drafters that know the text, that are always wrong, that draft at random, and for the real ones.
///
/// # Errors
/// [`Broken`].
pub fn text_is_plain(subject: &Subject) -> Result<Agreement, Broken> {
    let mut probe = Probe::new(subject, Law::TextIsPlain)?;
    let vocab = probe.verifier.limits().vocab;
    let cases = plain_cases(&mut probe)?;
    let texts: Vec<Vec<TokenId>> =
        cases.iter().map(|case| [&case.prompt[..], &case.plain].concat()).collect();
    let few = probe.tokens(8);
    let matrix = AdjacencyMatrix::new(vocab, 8).map_err(|error| probe.out_of_reach(error))?;
    let drafters: [(&str, Box<dyn Drafter>); 5] = [
        ("OracleDrafter", Box::new(OracleDrafter::new(texts.clone()))),
        ("AdversarialDrafter", Box::new(AdversarialDrafter::new(texts, vocab))),
        ("RandomDrafter", Box::new(RandomDrafter::new(few, subject.seed))),
        ("TokenRecycling", Box::new(TokenRecycling::new(matrix, TreeTemplate::paper_80()))),
        ("PromptLookup", Box::new(PromptLookup::default())),
    ];
    let mut agreement = Agreement::default();
    for (name, drafter) in drafters {
        agreement.add(compare(&mut probe, &cases, name, drafter)?);
    }
    Ok(agreement)
}

/// Law 10 for one's own drafter: several sequences, opened and closed midway, greedy and sampled, give the text of
/// plain decoding.
///
/// # Errors
/// [`Broken`].
pub fn text_is_plain_with<D: Drafter>(subject: &Subject, drafter: D) -> Result<Agreement, Broken> {
    let mut probe = Probe::new(subject, Law::TextIsPlain)?;
    let cases = plain_cases(&mut probe)?;
    compare(&mut probe, &cases, "the drafter", drafter)
}

fn samplings(probe: &Probe<'_>) -> Checked<Vec<Sampling>> {
    let warm = SamplingConfig { temperature: 0.8, seed: probe.subject.seed, ..SamplingConfig::default() };
    let mut configs = vec![SamplingConfig::default(), warm, SamplingConfig { stream: 1, ..warm }];
    if probe.subject.tolerance == Tolerance::Exact {
        // A cut of the vocabulary, or a penalty, turns a small change of a logit into a large one of a score, which
        // the margin rule does not cover.
        configs.push(SamplingConfig { top_k: 20, top_p: 0.9, min_p: 0.01, ..warm });
        configs.push(SamplingConfig { repeat_penalty: 1.3, ..SamplingConfig::default() });
    }
    let checked: Result<Vec<_>, _> = configs.into_iter().map(Sampling::new).collect();
    checked.map_err(|error| probe.out_of_reach(error))
}

/// Decodes each case alone, token by token.
fn plain_cases(probe: &mut Probe<'_>) -> Checked<Vec<Case>> {
    let mut cases = Vec::new();
    for sampling in samplings(probe)? {
        let prompt = probe.prefix();
        let mut case = Case { prompt, sampling, plain: Vec::new() };
        probe.at(format!("plain decoding with {:?}", sampling.config()));
        let (plain, _) = plainly(probe, &case, probe.subject.output)?;
        case.plain = plain;
        cases.push(case);
    }
    Ok(cases)
}

/// The first `len` tokens of plain decoding, and the row that the last of them was drawn from.
fn plainly(probe: &mut Probe<'_>, case: &Case, len: usize) -> Checked<(Vec<TokenId>, Vec<f32>)> {
    let verifier: &mut dyn Verifier = &mut *probe.verifier;
    let mut decoder = Decoder::new(verifier, NullDrafter);
    let run = |decoder: &mut Decoder<&mut dyn Verifier, NullDrafter>| {
        let request = Request { sampling: case.sampling, ..Request::greedy(len) };
        let mut session = [decoder.open(&case.prompt, request)?];
        let mut row = Row { input: 0, node: 0 };
        while session[0].finish_reason().is_none() {
            decoder.step(&mut session)?;
            row.node = session[0].tree().len() - 1;
        }
        let logits = decoder.verifier_mut().logits(row)?.to_vec();
        let [session] = session;
        let output = session.output().to_vec();
        decoder.close(session);
        Ok((output, logits))
    };
    let done = run(&mut decoder);
    done.map_err(|error| undecoded(probe, error))
}

fn undecoded(probe: &Probe<'_>, error: DecodeError) -> Broken {
    match error {
        DecodeError::Verify(source) => probe.broken(Cause::Failed { doing: "decoding", source }),
        other => probe.differs("a text", other),
    }
}

/// Decodes all cases with `drafter`, several at a time, and compares them with the plain texts.
fn compare<D: Drafter>(probe: &mut Probe<'_>, cases: &[Case], name: &str, drafter: D) -> Checked<Agreement> {
    probe.at(format!("decoding with {name}"));
    let limits = probe.verifier.limits();
    let slots = limits.max_seqs.min(limits.max_rows / 4).clamp(1, 4);
    let mut agreement = Agreement::default();
    let mut partings = Vec::new();
    let mut decoder = Decoder::new(&mut *probe.verifier, drafter);
    let run = drive(&mut decoder, cases, (slots, probe.subject.output), &mut agreement, &mut partings);
    drop(decoder);
    run.map_err(|error| undecoded(probe, error))?;
    for parting in partings {
        judge(probe, cases, name, &parting)?;
        agreement.within_margin += 1;
    }
    Ok(agreement)
}

/// Steps all cases to their ends, one more joining at every second step, and the second one closed after a few
/// steps and decoded once more from its start.
fn drive<V: Verifier, D: Drafter>(
    decoder: &mut Decoder<V, D>,
    cases: &[Case],
    (slots, output): (usize, usize),
    agreement: &mut Agreement,
    partings: &mut Vec<Parting>,
) -> Result<(), DecodeError> {
    let mut waiting: Vec<usize> = (0..cases.len()).rev().collect();
    let (mut running, mut sessions): (Vec<usize>, Vec<Session>) = (Vec::new(), Vec::new());
    let mut left_early = false;
    for round in 0.. {
        let joins = sessions.is_empty() || round % 2 == 0;
        if let Some(case) = waiting.pop_if(|_| joins && sessions.len() < slots) {
            let request = Request { sampling: cases[case].sampling, ..Request::greedy(output) };
            sessions.push(decoder.open(&cases[case].prompt, request)?);
            running.push(case);
        }
        if sessions.is_empty() {
            return Ok(());
        }
        let before: Vec<usize> = sessions.iter().map(|session| session.output().len()).collect();
        decoder.step(&mut sessions)?;
        // From the last to the first, so that places stay as they were in the pass.
        for place in (0..sessions.len()).rev() {
            let (case, session) = (running[place], &sessions[place]);
            let (plain, found) = (&cases[case].plain, session.output());
            let differs = (0..found.len()).find(|&at| plain.get(at) != Some(&found[at]));
            let early = session.finish_reason().is_some() && found.len() < plain.len();
            let leaves = case == 1 && !left_early && !found.is_empty();
            if let Some(at) = differs.or(early.then_some(found.len())) {
                let node = drawn_at(session, at.saturating_sub(before[place]));
                let logits = decoder.verifier_mut().logits(Row { input: place, node }).map(<[f32]>::to_vec);
                partings.push(Parting { case, at, logits: logits.unwrap_or_default() });
            } else if session.finish_reason().is_some() {
                agreement.tokens += found.len();
            } else if !leaves {
                continue;
            } else {
                left_early = true;
                waiting.insert(0, case);
                running.remove(place);
                decoder.close(sessions.remove(place));
                continue;
            }
            agreement.texts += 1;
            running.remove(place);
            decoder.close(sessions.remove(place));
        }
    }
    Ok(())
}

/// The node whose row the `index`-th token of the last step was drawn from.
fn drawn_at(session: &Session, index: usize) -> usize {
    let walk = session.accepted_path();
    // A prompt's chunk draws from its last row alone.
    let skipped = walk.nodes.len() - walk.sampled.len().min(walk.nodes.len());
    walk.nodes.get(skipped + index).map_or(0, |node| node.index())
}

/// A text parts from the plain one: within the margin, or wrong.
fn judge(probe: &mut Probe<'_>, cases: &[Case], name: &str, parting: &Parting) -> Checked {
    let &Parting { case, at, ref logits } = parting;
    let Case { prompt, sampling, plain } = &cases[case];
    probe.at(format!("token {at} of the text of {name} with {:?}, prompt {prompt:?}", sampling.config()));
    let wrong = |probe: &Probe<'_>, found: String| {
        Err(probe.differs(format!("token {:?} as in plain decoding", plain.get(at)), found))
    };
    if probe.subject.tolerance == Tolerance::Exact || at >= plain.len() {
        return wrong(probe, "another".into());
    }
    let (_, plain_row) = plainly(probe, &cases[case], at + 1)?;
    let before = [&prompt[..], &plain[..at]].concat();
    let margin = Margin::of(&plain_row, logits, *sampling, &before);
    if margin.explains(probe.subject.tolerance.most()) {
        return Ok(());
    }
    let most = probe.subject.tolerance.most();
    wrong(probe, format!("another, and not within the margin: {margin}, tolerance {most}"))
}
