//! Each way in which a text ends or meets a limit: the text is that of plain decoding. Each test also checks that its case
//! occurred. (`text.rs` tests random cases.)

mod plain;

use plain::Case;
use upcycle_core::mixed::{AdjacencySource, MixedDrafter, NgramCache, SuffixMatcher, TopKHistory};
use upcycle_core::{
    AdjacencyMatrix, DecodeError, Decoder, DraftContext, DraftTree, Drafter, FinishReason, NodeId,
    PromptLookup, Request, SamplingConfig, TokenId, TokenRecycling, TreeTemplate, Verifier,
};
use upcycle_testkit::NaiveVerifier;

const VOCAB: usize = 24;

/// Drafts the right continuation and some wrong siblings of each node: as much as fits of a tree of 7 levels.
struct Branching {
    text: Vec<TokenId>,
    siblings: TokenId,
}

const LEVELS: usize = 7;

impl Drafter for Branching {
    fn draft(&mut self, context: DraftContext<'_>, tree: &mut DraftTree) {
        let Some(rest) = self.text.strip_prefix(context.tokens) else { return };
        let mut above = NodeId::ROOT;
        for &token in rest.iter().take(LEVELS) {
            let Ok(node) = tree.push(above, token, Some(0.9)) else { return };
            for wrong in 1..=self.siblings {
                // A node that does not fit is left out.
                let _ = tree.push(above, (token + wrong) % VOCAB as TokenId, None);
            }
            above = node;
        }
    }
}

/// What a step after the prompt did.
struct Step {
    /// Tokens committed before it.
    committed: usize,
    /// Levels of its tree.
    depth: usize,
    /// Tokens that the tree holds below its root.
    drafted: Vec<TokenId>,
    /// Tokens sampled along the tree, including the bonus.
    sampled: usize,
    /// Tokens of them that were emitted.
    emitted: usize,
}

impl Step {
    /// Whether the text ended within an accepted path.
    fn ends_inside(&self) -> bool {
        self.emitted > 1 && self.emitted < self.sampled
    }
}

fn greedy(prompt: &[TokenId], max_tokens: usize) -> Case {
    Case {
        prompt: prompt.to_vec(),
        sampling: SamplingConfig::default(),
        max_tokens,
        end_of_sequence: vec![],
        stop_sum: None,
        bias: vec![],
        logprobs: None,
    }
}

/// The same case, greedy and sampled.
fn both(case: &Case) -> [Case; 2] {
    let sampling = SamplingConfig { temperature: 0.9, seed: 5, ..SamplingConfig::default() };
    [case.clone(), Case { sampling, ..case.clone() }]
}

/// Decodes and compares with plain decoding; gives the steps after the prompt.
fn compare(model: &NaiveVerifier, case: &Case, drafter: impl Drafter) -> Vec<Step> {
    let mut decoder = Decoder::new(model.clone(), drafter);
    let mut session = [decoder.open(&case.prompt, case.request()).unwrap()];
    let mut steps = Vec::new();
    while session[0].finish_reason().is_none() {
        let before = decoder.verifier().committed(session[0].id()).unwrap().len();
        decoder.step(&mut session).unwrap();
        let [session] = &session;
        let committed = decoder.verifier().committed(session.id()).unwrap();
        assert!(session.tokens().starts_with(committed) && committed.len() <= model.limits().max_context);
        if session.stats().steps() > steps.len() {
            steps.push(Step {
                committed: before,
                depth: session.tree().depth(),
                drafted: session.tree().tokens()[1..].to_vec(),
                sampled: session.accepted_path().sampled.len(),
                emitted: session.new_tokens().len(),
            });
        }
    }
    let (text, finish) = case.plain(model);
    let [session] = session;
    assert_eq!((session.output(), session.finish_reason()), (&text[..], Some(finish)), "{case:?}");
    decoder.close(session);
    steps
}

/// As `compare`, with a drafter that knows what the model would say if nothing ended it.
fn compare_known(model: &NaiveVerifier, case: &Case, siblings: TokenId) -> Vec<Step> {
    let endless = Case { end_of_sequence: vec![], stop_sum: None, max_tokens: 200, ..case.clone() };
    let text = endless.plain(&model.clone().with_max_context(1024)).0;
    compare(model, case, Branching { text: [&case.prompt[..], &text].concat(), siblings })
}

/// Every drafter that learns, over `matrix`.
fn learning(matrix: &AdjacencyMatrix, template: &TreeTemplate) -> Vec<Box<dyn Drafter>> {
    let mixed = MixedDrafter::new(vec![
        Box::new(AdjacencySource::new(matrix.clone())),
        Box::new(NgramCache::new(2, 4096)),
        Box::new(SuffixMatcher::new(512)),
        Box::new(TopKHistory::default()),
    ]);
    vec![
        Box::new(TokenRecycling::new(matrix.clone(), template.clone())),
        Box::new(mixed),
        Box::new(PromptLookup::default()),
    ]
}

#[test]
fn the_context_is_full_in_the_middle_of_a_tree() {
    let (mut cut, mut full) = (0, 0);
    for max_context in 20..40 {
        let model = NaiveVerifier::new(VOCAB, 4).with_max_context(max_context);
        for (case, siblings) in
            both(&greedy(&[1, 2, 3], 100)).into_iter().flat_map(|case| [0, 1, 2].map(|n| (case.clone(), n)))
        {
            let (text, finish) = case.plain(&model);
            // One more token can follow the last that fits, since its keys and values are not stored.
            assert_eq!((text.len(), finish), (max_context - 3 + 1, FinishReason::ContextFull));
            for step in compare_known(&model, &case, siblings) {
                let left = max_context - step.committed - 1;
                assert!(
                    step.drafted.len() <= left && step.emitted == step.sampled,
                    "nothing is drafted that cannot be emitted"
                );
                let short = step.drafted.len() < LEVELS * (1 + siblings as usize);
                cut += usize::from(short && step.drafted.len() == left && step.drafted.len() > step.depth);
                full += usize::from(step.depth > 1 && step.committed + step.emitted == max_context);
            }
        }
    }
    assert!(cut > 20 && full > 10, "{cut} trees were cut short; {full} paths filled the context");
}

#[test]
fn a_template_is_deeper_than_the_context_left() {
    let chain =
        "name = \"chain\"\nnodes = [\"0\", \"0.0\", \"0.0.0\", \"0.0.0.0\", \"0.0.0.0.0\", \"0.0.0.0.0.0\"]";
    let template = TreeTemplate::parse(chain).unwrap();
    let mut matrix = AdjacencyMatrix::new(VOCAB, 8).unwrap();
    for token in 0..VOCAB as TokenId {
        matrix.update(token, &[(token + 1) % VOCAB as TokenId, (token + 2) % VOCAB as TokenId]);
    }
    let mut shallow = 0;
    for left in 0..=12 {
        let model = NaiveVerifier::new(VOCAB, 4).with_max_context(10 + left);
        for case in both(&greedy(&[3; 10], 100)) {
            assert_eq!(case.plain(&model).1, FinishReason::ContextFull);
            for drafter in learning(&matrix, &template) {
                compare(&model, &case, drafter);
            }
            // It drafts as deep as the context or the template allows.
            let steps = compare(&model, &case, TokenRecycling::new(matrix.clone(), template.clone()));
            for step in &steps {
                assert!(step.depth <= (10 + left - step.committed - 1).min(6));
            }
            assert_eq!(steps.first().map(|step| step.depth), (left > 0).then(|| (left - 1).min(6)));
            shallow += steps.iter().filter(|step| (1..6).contains(&step.depth)).count();
        }
    }
    assert!(shallow > 10, "{shallow} trees were less deep than the template");
}

#[test]
fn a_stop_string_ends_inside_an_accepted_path() {
    let mut inside = 0;
    for seed in 0..20 {
        let model = NaiveVerifier::new(VOCAB, seed);
        for case in both(&greedy(&[1, 2, 3], 100)) {
            let (text, _) = case.plain(&model);
            for at in 2..14 {
                let stop_sum = Some(text[at - 1] + text[at]);
                let case = Case { stop_sum, ..case.clone() };
                assert_eq!(case.plain(&model).1, FinishReason::StopString);
                let steps = compare_known(&model, &case, 2);
                inside += usize::from(steps.last().is_some_and(Step::ends_inside));
            }
        }
    }
    assert!(inside > 50, "{inside} stops lay between the ends of a path");
}

#[test]
fn the_end_of_sequence_is_a_node_of_the_draft() {
    let mut inside = 0;
    for seed in 0..20 {
        let model = NaiveVerifier::new(VOCAB, seed);
        for case in both(&greedy(&[1, 2, 3], 100)) {
            let (text, _) = case.plain(&model);
            for &end in &text[1..14] {
                let end_of_sequence = vec![end, VOCAB as TokenId + 9];
                let case = Case { end_of_sequence, ..case.clone() };
                assert_eq!(case.plain(&model).1, FinishReason::EndOfSequence);
                let steps = compare_known(&model, &case, 2);
                // The first token is in no draft, and it may already be the end.
                let last = steps.last().filter(|step| step.ends_inside());
                assert!(last.is_none_or(|step| step.drafted.contains(&end)));
                inside += usize::from(last.is_some());
            }
        }
    }
    assert!(inside > 50, "{inside} ends were drafted, accepted, and had accepted nodes below");
}

#[test]
fn the_most_tokens_are_reached_inside_a_path() {
    let mut inside = 0;
    for max_tokens in 0..=24 {
        for case in both(&greedy(&[1, 2, 3], max_tokens)) {
            let model = NaiveVerifier::new(VOCAB, 4);
            assert_eq!(case.plain(&model).1, FinishReason::MaxTokens);
            let steps = compare_known(&model, &case, 2);
            inside += usize::from(steps.last().is_some_and(Step::ends_inside));
        }
    }
    assert!(inside > 10, "{inside} limits lay between the ends of a path");
}

#[test]
fn an_empty_prompt_is_refused_and_changes_nothing() {
    let model = NaiveVerifier::new(VOCAB, 4).with_max_seqs(1);
    let case = greedy(&[1, 2, 3], 20);
    let (text, _) = case.plain(&model);
    let mut decoder =
        Decoder::new(model, Branching { text: [&case.prompt[..], &text].concat(), siblings: 2 });
    let refused = |found| matches!(found, Some(DecodeError::EmptyPrompt));
    assert!(refused(decoder.open(&[], Request::greedy(5)).err()));
    assert!(refused(decoder.generate(&[], Request::greedy(5)).err()));
    // The one sequence there may be is still free; in the middle of a text nothing is lost.
    let mut session = [decoder.open(&case.prompt, case.request()).unwrap()];
    while session[0].finish_reason().is_none() {
        decoder.step(&mut session).unwrap();
        assert!(refused(decoder.resume(&mut session[0], &[], Request::greedy(5)).err()));
    }
    assert_eq!(session[0].output(), text);
}

#[test]
fn a_prompt_fills_the_context() {
    for chunk in [1, 5, 16, 512] {
        for (len, emitted) in [(16, 1), (15, 2), (14, 3)] {
            let model = NaiveVerifier::new(VOCAB, 4).with_max_context(16);
            let prompt: Vec<TokenId> = (0..len).map(|token| token % 5).collect();
            for case in both(&greedy(&prompt, 100)) {
                let (text, finish) = case.plain(&model);
                assert_eq!((text.len(), finish), (emitted, FinishReason::ContextFull));
                let drafter = Branching { text: [&prompt[..], &text].concat(), siblings: 2 };
                let mut decoder = Decoder::new(model.clone(), drafter).with_prefill_chunk(chunk);
                let mut generation = decoder.generate(&prompt, case.request()).unwrap();
                let found: Vec<_> = generation.by_ref().map(Result::unwrap).collect();
                assert_eq!((found, generation.finish_reason()), (text, Some(finish)));
            }
        }
    }
}

#[test]
fn k_and_the_template_are_above_what_a_row_has() {
    let mut drafted = 0;
    for k in [1, 2, 8, 32] {
        // Rows of one candidate, of two and none at all; the paper's tree names ranks up to 7.
        let mut matrix = AdjacencyMatrix::new(VOCAB, k).unwrap();
        for token in 0..VOCAB as TokenId {
            let row = [(token + 5) % VOCAB as TokenId, (token + 9) % VOCAB as TokenId];
            matrix.update(token, &row[..token as usize % 3]);
        }
        for case in both(&greedy(&[1, 2, 3], 60)) {
            for drafter in learning(&matrix, &TreeTemplate::paper_80()) {
                let steps = compare(&NaiveVerifier::new(VOCAB, 4), &case, drafter);
                drafted += steps.iter().map(|step| step.drafted.len()).sum::<usize>();
            }
        }
    }
    assert!(drafted > 1000, "{drafted} nodes were drafted from rows that are not full");
}

#[test]
fn a_vocabulary_is_smaller_than_k() {
    let mut saved = 0;
    for vocab in [1, 2, 3, 7] {
        let model = NaiveVerifier::new(vocab, 4);
        for k in [8, 32] {
            let matrix = AdjacencyMatrix::new(vocab, k).unwrap();
            for case in both(&greedy(&[0, 0], 60)) {
                for drafter in learning(&matrix, &TreeTemplate::paper_80()) {
                    saved += 60 - compare(&model, &case, drafter).len();
                }
            }
        }
    }
    assert!(saved > 500, "{saved} tokens were drafted from rows of fewer than k candidates");
}
