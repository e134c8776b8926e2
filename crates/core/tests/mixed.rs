//! Laws of the mixed drafter.

use std::sync::Arc;

use proptest::prelude::*;
use upcycle_core::mixed::{
    AdjacencySource, CandidateSource, Corpus, CorpusBuilder, CorpusMatcher, FrequentTokens, MAX_SOURCES,
    MixedDrafter, NgramCache, PredictionContext, Proposals, SuffixMatcher, TopKHistory,
};
use upcycle_core::{
    AdjacencyMatrix, AutoBudget, Decoder, DraftContext, DraftTree, Drafter, NullDrafter, Outcome, Request,
    RowSelection, Sampling, SamplingConfig, SeqId, TokenId, TreeLimits,
};
use upcycle_testkit::NaiveVerifier;

const VOCAB: usize = 48;

/// A corpus of `texts`, of about `bytes`.
fn corpus(texts: &[Vec<TokenId>], bytes: usize) -> Arc<Corpus> {
    let mut builder = CorpusBuilder::new(VOCAB, bytes / 8);
    for text in texts {
        builder.push(text);
    }
    Arc::new(builder.build())
}

/// The sources whose bits are set in `set`, with tables of about `bytes`.
fn sources(set: u8, bytes: usize, corpus: Arc<Corpus>) -> Vec<Box<dyn CandidateSource>> {
    let all: [Box<dyn CandidateSource>; 7] = [
        Box::new(AdjacencySource::new(AdjacencyMatrix::new(VOCAB, 8).unwrap())),
        Box::new(NgramCache::new(2, bytes)),
        Box::new(NgramCache::new(3, bytes)),
        Box::new(SuffixMatcher::new(bytes / 16)),
        Box::new(TopKHistory::default()),
        Box::new(FrequentTokens::new(VOCAB)),
        Box::new(CorpusMatcher::new(corpus)),
    ];
    all.into_iter().enumerate().filter(|(bit, _)| set >> bit & 1 == 1).map(|(_, source)| source).collect()
}

/// Checks each tree of the inner drafter.
struct Checked(MixedDrafter);

impl Drafter for Checked {
    fn draft(&mut self, context: DraftContext<'_>, tree: &mut DraftTree) {
        self.0.draft(context, tree);
        let mut paths = vec![1.0_f32];
        for node in tree.nodes().skip(1) {
            let own = tree.probability(node).expect("every node has a probability");
            paths.push(paths[tree.parents()[node.index()] as usize] * own);
        }
        assert!(
            paths.is_sorted_by(|a, b| *a >= *b * 0.99999),
            "the path probabilities must not rise: {paths:?}"
        );
    }
    fn observe(&mut self, outcome: &Outcome<'_>) {
        self.0.observe(outcome);
    }
    fn drop_sequence(&mut self, seq: SeqId) {
        self.0.drop_sequence(seq);
    }
    fn k(&self) -> usize {
        self.0.k()
    }
    fn prompt_rows(&self) -> RowSelection {
        self.0.prompt_rows()
    }
}

fn texts(drafter: impl Drafter, size: Option<usize>, seed: u64, sampling: Sampling) -> Vec<Vec<TokenId>> {
    let decoder = Decoder::new(NaiveVerifier::new(VOCAB, seed), drafter).with_prefill_chunk(7);
    let mut decoder = match size {
        Some(nodes) => decoder.with_budget(nodes),
        None => decoder.with_auto_budget(AutoBudget::new(None)),
    };
    let prompt: Vec<TokenId> = (0..20).map(|i| (i * i) % VOCAB as u32).collect();
    let open = |decoder: &mut Decoder<_, _>, prompt: &[TokenId]| {
        decoder.open(prompt, Request { sampling, ..Request::greedy(60) }).unwrap()
    };
    // Two sessions at once; the second starts late.
    let mut sessions = vec![open(&mut decoder, &prompt)];
    for _ in 0..6 {
        decoder.step(&mut sessions).unwrap();
    }
    sessions.push(open(&mut decoder, &prompt[3..]));
    while sessions.iter().any(|session| session.finish_reason().is_none()) {
        decoder.step(&mut sessions).unwrap();
    }
    let texts = sessions.iter().map(|session| session.output().to_vec()).collect();
    sessions.into_iter().for_each(|session| drop(decoder.close(session)));
    texts
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn law_10_the_text_is_plain_with_any_sources_and_any_size(
        set in 0_u8..128,
        size in prop::option::of(0_usize..40),
        seed in any::<u64>(),
        bytes in 64_usize..20_000,
        prompt_rows in prop::sample::select(vec![RowSelection::All, RowSelection::Last, RowSelection::Every(3)]),
        temperature in prop::sample::select(vec![0.0_f32, 0.7]),
        mut corpus_texts in prop::collection::vec(prop::collection::vec(0..VOCAB as u32 + 2, 0..80), 0..4),
        with_answers in any::<bool>(),
    ) {
        let config = SamplingConfig { temperature, seed, ..SamplingConfig::default() };
        let sampling = Sampling::new(config).unwrap();
        let plain = texts(NullDrafter, Some(0), seed, sampling);
        if with_answers {
            corpus_texts.extend(plain.iter().cloned());
        }
        let sources = sources(set, bytes, corpus(&corpus_texts, bytes));
        let drafter = Checked(MixedDrafter::new(sources).with_prompt_rows(prompt_rows));
        prop_assert_eq!(texts(drafter, size, seed, sampling), plain);
    }
}

/// Proposes two tokens, one of them with a confidence bin that is out of range.
struct OutOfRange;

impl CandidateSource for OutOfRange {
    fn name(&self) -> &'static str {
        "out-of-range"
    }
    fn propose(&self, _: PredictionContext<'_>, proposals: &mut Proposals) {
        proposals.push(1, u8::MAX);
        proposals.push(2, 0);
    }
}

#[test]
fn a_source_needs_a_name_and_proposals_alone() {
    let greedy = Sampling::new(SamplingConfig::default()).unwrap();
    let sources = || -> Vec<Box<dyn CandidateSource>> { (0..9).map(|_| Box::new(OutOfRange) as _).collect() };
    assert_eq!(MixedDrafter::new(sources()).sources().len(), MAX_SOURCES);
    assert_eq!(
        texts(MixedDrafter::new(sources()), Some(8), 1, greedy),
        texts(NullDrafter, Some(0), 1, greedy)
    );
}

#[test]
fn tables_stay_within_their_bytes() {
    let bytes = 40_000;
    let mut drafter = MixedDrafter::new(sources(0b1110, bytes, corpus(&[], 0)));
    let limit = 2 * bytes + 64 * 1024;
    let text: Vec<TokenId> = (0..20_000_u32).map(|i| i.wrapping_mul(2_654_435_761) % VOCAB as u32).collect();
    let mut tree = DraftTree::new();
    for end in (1..text.len()).step_by(61) {
        let context = DraftContext { seq: SeqId::new(1), tokens: &text[..end] };
        tree.reset(text[end - 1], TreeLimits { nodes: 8, leaves: 8, depth: 8 });
        drafter.draft(context, &mut tree);
        assert!(drafter.footprint().bytes <= limit, "{} bytes at {end} tokens", drafter.footprint().bytes);
    }
}
