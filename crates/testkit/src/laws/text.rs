//! Law 10: the text does not depend on drafts.

use upcycle_core::{
    AdjacencyMatrix, DecodeError, Decoder, Drafter, Margin, NodeId, NullDrafter, PromptLookup, Request, Row,
    Sampling, SamplingConfig, Session, TokenId, TokenRecycling, TreeTemplate, Verifier,
};

use crate::drafters::{AdversarialDrafter, OracleDrafter, RandomDrafter};
use crate::law::{Broken, Cause, Law};
use crate::probe::{Checked, Probe};
use crate::subject::{Subject, Tolerance};

/// What law 10 compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Agreement {
    /// Texts compared.
    pub texts: usize,
    /// Tokens that were equal.
    pub tokens: usize,
    /// Texts that differ from the plain one within the [margin](upcycle_core::margin). Always 0 for an exact subject.
    pub within_margin: usize,
}

impl Agreement {
    fn add(&mut self, other: Agreement) {
        self.texts += other.texts;
        self.tokens += other.tokens;
        self.within_margin += other.within_margin;
    }
}

/// One prompt and its text by plain decoding.
struct Case {
    prompt: Vec<TokenId>,
    sampling: Sampling,
    plain: Vec<TokenId>,
}

/// The first token at which a drafted text differs from the plain one, and the row that it was sampled from.
struct Difference {
    case: usize,
    at: usize,
    found: Option<TokenId>,
    logits: Vec<f32>,
}

/// Law 10 for drafters that are always right, always wrong and random, and for the real ones.
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

/// Law 10 for a drafter of your own: several sequences, greedy and sampled, opened and closed midway, give the text of plain
/// decoding.
///
/// # Errors
/// [`Broken`].
pub fn text_is_plain_with<D: Drafter>(subject: &Subject, drafter: D) -> Result<Agreement, Broken> {
    let mut probe = Probe::new(subject, Law::TextIsPlain)?;
    let cases = plain_cases(&mut probe)?;
    compare(&mut probe, &cases, "the drafter", drafter)
}

fn samplings(probe: &Probe<'_>) -> Checked<Vec<Sampling>> {
    let sampled = SamplingConfig { temperature: 0.8, seed: probe.subject.seed, ..SamplingConfig::default() };
    let mut configs = vec![SamplingConfig::default(), sampled, SamplingConfig { sample_index: 1, ..sampled }];
    if probe.subject.tolerance == Tolerance::Exact {
        // With these, a small change of a logit can change a score by much, which the margin rule does not cover.
        configs.push(SamplingConfig { top_k: 20, top_p: 0.9, min_p: 0.01, ..sampled });
        configs.push(SamplingConfig { repeat_penalty: 1.3, ..SamplingConfig::default() });
    }
    let checked: Result<Vec<_>, _> = configs.into_iter().map(Sampling::new).collect();
    checked.map_err(|error| probe.out_of_reach(error))
}

/// Decodes each case on its own, token by token.
fn plain_cases(probe: &mut Probe<'_>) -> Checked<Vec<Case>> {
    let mut cases = Vec::new();
    for sampling in samplings(probe)? {
        let prompt = probe.prefix();
        let mut case = Case { prompt, sampling, plain: Vec::new() };
        probe.at(format!("plain decoding with {:?}", sampling.config()));
        let (plain, _) = decode_plain(probe, &case, probe.subject.output)?;
        case.plain = plain;
        cases.push(case);
    }
    Ok(cases)
}

/// The first `len` tokens of plain decoding, and the row that the last of them was sampled from.
fn decode_plain(probe: &mut Probe<'_>, case: &Case, len: usize) -> Checked<(Vec<TokenId>, Vec<f32>)> {
    let verifier: &mut dyn Verifier = &mut *probe.verifier;
    let mut decoder = Decoder::new(verifier, NullDrafter);
    let run = |decoder: &mut Decoder<&mut dyn Verifier, NullDrafter>| {
        let request = Request { sampling: case.sampling, ..Request::greedy(len) };
        let mut session = [decoder.open(&case.prompt, request)?];
        let mut row = Row { input: 0, node: 0 };
        while session[0].finish_reason().is_none() {
            decoder.step_one(&mut session[0])?;
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
        DecodeError::Step(error) => {
            let source = error.into_failures().swap_remove(0).error;
            probe.broken(Cause::Failed { doing: "decoding", source })
        }
        other => probe.differs("a text", other),
    }
}

/// Decodes all cases with `drafter`, several at a time, and compares them with the plain texts.
fn compare<D: Drafter>(probe: &mut Probe<'_>, cases: &[Case], name: &str, drafter: D) -> Checked<Agreement> {
    probe.at(format!("decoding with {name}"));
    let limits = probe.verifier.limits();
    let slots = limits.max_seqs.min(limits.max_rows / 4).clamp(1, 4);
    let mut agreement = Agreement::default();
    let mut differences = Vec::new();
    let mut decoder = Decoder::new(&mut *probe.verifier, drafter);
    let run = drive(
        &mut decoder,
        cases,
        Load { slots, output: probe.subject.output },
        &mut agreement,
        &mut differences,
    );
    drop(decoder);
    run.map_err(|error| undecoded(probe, error))?;
    for difference in differences {
        judge(probe, cases, name, &difference)?;
        agreement.within_margin += 1;
    }
    Ok(agreement)
}

/// Decodes all cases. One more joins at every second step. The second one is closed after a few steps and starts again.
fn drive<V: Verifier, D: Drafter>(
    decoder: &mut Decoder<V, D>,
    cases: &[Case],
    Load { slots, output }: Load,
    agreement: &mut Agreement,
    differences: &mut Vec<Difference>,
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
        // From the last to the first, so that the indices stay those of the pass.
        for place in (0..sessions.len()).rev() {
            let (case, session) = (running[place], &sessions[place]);
            let (plain, found) = (&cases[case].plain, session.output());
            let differs = (0..found.len()).find(|&at| plain.get(at) != Some(&found[at]));
            let early = session.finish_reason().is_some() && found.len() < plain.len();
            let leaves = case == 1 && !left_early && !found.is_empty();
            if let Some(at) = differs.or(early.then_some(found.len())) {
                let node = session.accepted_path().sampled_from(at.saturating_sub(before[place]));
                let node = node.map_or(0, NodeId::index);
                let logits = decoder.verifier_mut().logits(Row { input: place, node }).map(<[f32]>::to_vec);
                let found = found.get(at).copied();
                differences.push(Difference { case, at, found, logits: logits.unwrap_or_default() });
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

/// How much to decode at once.
#[derive(Clone, Copy)]
struct Load {
    /// Sequences at once.
    slots: usize,
    /// Tokens of each text.
    output: usize,
}

/// Decides whether a difference is within the margin or breaks the law.
fn judge(probe: &mut Probe<'_>, cases: &[Case], name: &str, difference: &Difference) -> Checked {
    let &Difference { case, at, found, ref logits } = difference;
    let Case { prompt, sampling, plain } = &cases[case];
    probe.at(format!("token {at} of the text of {name} with {:?}, prompt {prompt:?}", sampling.config()));
    let token = |token: Option<TokenId>| token.map_or("the end".into(), |token| format!("token {token}"));
    let before = &plain[..at.min(plain.len())];
    let (expected, found) = (token(plain.get(at).copied()), token(found));
    let wrong = |probe: &Probe<'_>, why: String| {
        let expected = format!("{expected} as in plain decoding after the tokens {before:?} of the answer");
        Err(probe.differs(expected, format!("{found}{why}")))
    };
    if probe.subject.tolerance == Tolerance::Exact || at >= plain.len() {
        return wrong(probe, String::new());
    }
    let (_, plain_row) = decode_plain(probe, &cases[case], at + 1)?;
    let all = [&prompt[..], before].concat();
    let margin = Margin::new(&plain_row, logits, *sampling, &all);
    if margin.explains(probe.subject.tolerance.most()) {
        return Ok(());
    }
    let most = probe.subject.tolerance.most();
    wrong(probe, format!(", which is not within the margin: {margin}, tolerance {most}"))
}
