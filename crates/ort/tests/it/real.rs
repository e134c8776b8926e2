//! The real model, exported: laws, the reference's texts, rounding.

use std::path::Path;
use std::sync::{Arc, LazyLock};

use serde_json::Value;
use upcycle_core::{
    AdjacencyMatrix, Commit, Decoder, DraftTree, Margin, NodeId, NullDrafter, Request, Row, RowSelection,
    Sampling, SamplingConfig, Session, TokenId, TokenRecycling, TopK, TreeInput, TreeTemplate, Verifier,
};
use upcycle_onnx::export::WeightType;
use upcycle_ort::{Memory, Model, OrtVerifier};
use upcycle_testkit::{Law, Subject, Tolerance, real_model};

use crate::support::{Folder, Short, exported, load, verifier};

struct Loaded {
    _folder: Folder,
    model: Arc<Model>,
}

type Shared = LazyLock<Loaded>;

type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

fn real(weights: WeightType) -> Loaded {
    let folder = exported(&real_model(), weights);
    let model = load(&folder.path);
    Loaded { _folder: folder, model }
}

static F32: Shared = LazyLock::new(|| real(WeightType::F32));
static INT8: Shared = LazyLock::new(|| real(WeightType::Int8));
static INT4: Shared = LazyLock::new(|| real(WeightType::Int4));

/// Common tokens, and sizes that suit a debug build, at the backend's stated tolerance.
fn within(shared: &'static Shared, memory: Memory) -> Subject {
    let model = Arc::clone(&shared.model);
    let stated = OrtVerifier::new(Arc::clone(&model)).row_tolerance();
    Subject::new(move || Short::new(verifier(&model, memory), 40))
        .tokens(500..6000)
        .cases(1)
        .sizes(6, 8)
        .output(8)
        .tolerance(Tolerance::Within(stated))
}

macro_rules! laws {
    ($($name:ident: $shared:ident, $memory:ident;)*) => {$(
        upcycle_testkit::conformance! {
            mod $name;
            subject: || within(&$shared, Memory::$memory),
            exempt: [(Law::NotFiniteIsAnError, "the real model has no NaN; tiny.rs tries it on models that overflow")],
        }
    )*};
}

laws! {
    f32: F32, Host;
    f32_on_device: F32, Device;
}

/// A prompt of the reference, and its greedy text.
struct Reference {
    prompt: Vec<TokenId>,
    output: Vec<TokenId>,
}

fn references() -> Vec<Reference> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/paper_trace.json");
    let trace: Value = std::fs::read_to_string(path)
        .ok()
        .and_then(|text| serde_json::from_str(&text).ok())
        .expect("the fixture is in the repository");
    let ids = |value: &Value| {
        let ids = value.as_array().expect("an array of ids").iter();
        ids.map(|id| u32::try_from(id.as_u64().expect("an id")).expect("an id")).collect()
    };
    let prompts = trace["prompts"].as_array().expect("prompts").iter();
    prompts
        .map(|prompt| Reference { prompt: ids(&prompt["prompt_ids"]), output: ids(&prompt["output_ids"]) })
        .collect()
}

#[test]
fn greedy_texts_in_f32_equal_those_of_another_engine() -> Fallible<()> {
    let mut decoder = Decoder::new(OrtVerifier::new(Arc::clone(&F32.model)), NullDrafter);
    let references = references();
    assert_eq!(references.len(), 10);
    let mut sessions = Vec::new();
    for reference in &references {
        let request = Request::greedy(reference.output.len());
        sessions.push(decoder.open(&reference.prompt, request)?);
    }
    while sessions.iter().any(|session| session.finish_reason().is_none()) {
        decoder.step(&mut sessions)?;
    }
    for (number, (reference, session)) in references.iter().zip(&sessions).enumerate() {
        assert_eq!(session.output(), reference.output, "prompt {number}");
    }
    sessions.into_iter().for_each(|session: Session| drop(decoder.close(session)));
    Ok(())
}

/// Decodes with the paper's tree. If the text differs from the plain one, returns the row that the token was sampled from.
fn first_difference(
    model: &Arc<Model>,
    sampling: Sampling,
    (prompt, plain): (&[TokenId], &[TokenId]),
) -> Fallible<Option<(usize, Vec<f32>)>> {
    let matrix = AdjacencyMatrix::new(model.vocab(), 8)?;
    let drafter = TokenRecycling::new(matrix, TreeTemplate::paper_80());
    let mut decoder = Decoder::new(OrtVerifier::new(Arc::clone(model)), drafter).with_budget(24);
    let request = Request { sampling, ..Request::greedy(plain.len()) };
    let mut session = [decoder.open(prompt, request)?];
    while session[0].finish_reason().is_none() {
        let before = session[0].output().len();
        decoder.step(&mut session)?;
        let output = session[0].output();
        if let Some(at) = (before..output.len()).find(|&at| plain.get(at) != Some(&output[at])) {
            let from = session[0].accepted_path().sampled_from(at - before);
            let node = from.map_or(0, |node| node.index());
            return Ok(Some((at, decoder.verifier_mut().logits(Row { input: 0, node })?.to_vec())));
        }
    }
    Ok(None)
}

/// The first `len` tokens of plain decoding, and the row that the last of them was sampled from.
fn plainly(
    model: &Arc<Model>,
    sampling: Sampling,
    prompt: &[TokenId],
    len: usize,
) -> Fallible<(Vec<TokenId>, Vec<f32>)> {
    let mut decoder = Decoder::new(OrtVerifier::new(Arc::clone(model)), NullDrafter);
    let request = Request { sampling, ..Request::greedy(len) };
    let mut session = [decoder.open(prompt, request)?];
    let mut row = Row { input: 0, node: 0 };
    while session[0].finish_reason().is_none() {
        decoder.step(&mut session)?;
        row.node = session[0].tree().len() - 1;
    }
    let logits = decoder.verifier_mut().logits(row)?.to_vec();
    Ok((session[0].output().to_vec(), logits))
}

#[test]
fn drafted_texts_equal_plain_ones_or_are_within_the_margin() -> Fallible<()> {
    let model = &F32.model;
    let cap = OrtVerifier::new(Arc::clone(model)).row_tolerance();
    let warm = SamplingConfig { temperature: 0.8, seed: 3, ..SamplingConfig::default() };
    let samplings = [Sampling::greedy(), Sampling::new(warm)?];
    let (mut texts, mut within) = (0, 0);
    for reference in references().iter().take(3) {
        for sampling in samplings {
            let (plain, _) = plainly(model, sampling, &reference.prompt, 40)?;
            texts += 1;
            let Some((at, logits)) = first_difference(model, sampling, (&reference.prompt, &plain))? else {
                continue;
            };
            let (_, row) = plainly(model, sampling, &reference.prompt, at + 1)?;
            let before = [&reference.prompt[..], &plain[..at]].concat();
            let margin = Margin::new(&row, &logits, sampling, &before);
            assert!(margin.explains(cap), "token {at} of a text: {margin}, stated: {cap}");
            within += 1;
        }
    }
    println!("{within} of {texts} texts differ from the plain one within the margin");
    Ok(())
}

/// The logits after each token of a text, scored in chunks of `n` rows, `[tokens * vocab]`.
fn in_chunks(model: &Arc<Model>, text: &[TokenId], n: usize) -> Fallible<Vec<f32>> {
    let mut verifier = OrtVerifier::new(Arc::clone(model));
    let mut logits = Vec::new();
    let seq = verifier.open()?;
    for tokens in text.chunks(n) {
        let tree = DraftTree::chain(tokens);
        verifier.forward(&[TreeInput { seq, tree: &tree, rows: RowSelection::All }], &mut TopK::new(1))?;
        for node in 0..tree.len() {
            logits.extend_from_slice(verifier.logits(Row { input: 0, node })?);
        }
        let path: Vec<NodeId> = tree.nodes().collect();
        verifier.commit(&[Commit { seq, path: &path }])?;
    }
    Ok(logits)
}

#[test]
fn logits_differ_between_chunk_sizes_by_less_than_the_stated_tolerance() -> Fallible<()> {
    let texts: Vec<_> =
        references().iter().take(2).map(|text| [&text.prompt[..], &text.output].concat()).collect();
    for (name, shared) in [("f32", &F32), ("int8", &INT8), ("int4", &INT4)] {
        let stated = OrtVerifier::new(Arc::clone(&shared.model)).row_tolerance();
        for text in texts.iter().map(|text| &text[..text.len().min(81)]) {
            let alone = in_chunks(&shared.model, text, 1)?;
            for n in [2, 9, 81] {
                let beside = in_chunks(&shared.model, text, n)?;
                let moved = alone.iter().zip(&beside).map(|(a, b)| (a - b).abs());
                let most = moved.fold(0.0, f32::max);
                println!("{name}, {n} rows: logits move by at most {most:.1e} (stated: {stated:.0e})");
                assert!(most < stated, "{name}, {n} rows: {most}");
            }
        }
    }
    Ok(())
}

#[test]
fn few_bits_agree_with_f32_on_nearly_every_token() -> Fallible<()> {
    for (name, shared) in [("int8", &INT8), ("int4", &INT4)] {
        let (mut agree, mut all) = (0, 0);
        for reference in references().iter().take(3) {
            let text = [&reference.prompt[..], &reference.output].concat();
            let mut verifier = OrtVerifier::new(Arc::clone(&shared.model));
            let seq = verifier.open()?;
            let tree = DraftTree::chain(&text);
            let mut top = TopK::new(1);
            verifier.forward(&[TreeInput { seq, tree: &tree, rows: RowSelection::All }], &mut top)?;
            for (at, &token) in reference.output.iter().enumerate() {
                let row = Row { input: 0, node: reference.prompt.len() - 1 + at };
                agree += usize::from(top.get(row).is_some_and(|found| found.ids[0] == token));
                all += 1;
            }
        }
        println!("{name}: {agree} of {all} tokens are those of f32");
        assert!(agree * 100 >= all * 95, "{name}: {agree} of {all}");
    }
    Ok(())
}
