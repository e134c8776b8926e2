//! A step allocates nothing once the memory has grown.
#![expect(
    unsafe_code,
    reason = "a global allocator can only be written with unsafe; it forwards to the system's"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use upcycle_core::mixed::{
    AdjacencySource, CandidateSource, CorpusBuilder, CorpusMatcher, FrequentTokens, MixedDrafter, NgramCache,
    SuffixMatcher, TopKHistory,
};
use upcycle_core::{
    AdjacencyMatrix, AutoBudget, Clock, Decoder, Drafter, PromptLookup, Request, Sampling, SamplingConfig,
    Session, TokenRecycling, TreeTemplate,
};
use upcycle_testkit::NaiveVerifier;

thread_local! {
    /// Per thread, since tests run in parallel.
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call goes unchanged to the system's allocator. The counter is a thread-local cell that is neither allocated
// nor dropped.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller upholds the contract, which is that of the system's allocator.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: the caller upholds the contract, which is that of the system's allocator.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller upholds the contract, which is that of the system's allocator.
        unsafe { System.realloc(place, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// A clock on which every pass takes as long, so that the budget chooses the same sizes on every machine.
#[derive(Default)]
struct Ticking(AtomicU64);

impl Clock for Ticking {
    fn now(&self) -> Duration {
        Duration::from_millis(self.0.fetch_add(1, Ordering::Relaxed))
    }
}

/// Decodes two texts at once for a while, then counts the allocations of a hundred more steps.
fn allocations(drafter: impl Drafter, sampling: Sampling) -> usize {
    let model = NaiveVerifier::new(48, 2).with_max_context(16_384);
    allocations_of(Decoder::new(model, drafter).with_budget(24), sampling)
}

fn allocations_of(mut decoder: Decoder<NaiveVerifier, impl Drafter>, sampling: Sampling) -> usize {
    let request = || Request { sampling, ..Request::greedy(16_000) };
    let mut sessions: Vec<Session> =
        [&[1, 2, 3][..], &[4, 5]].iter().map(|prompt| decoder.open(prompt, request()).unwrap()).collect();
    for _ in 0..1500 {
        decoder.step(&mut sessions).unwrap();
    }
    let (before, emitted) = (ALLOCATIONS.get(), sessions[0].output().len());
    for _ in 0..100 {
        decoder.step(&mut sessions).unwrap();
    }
    let found = ALLOCATIONS.get() - before;
    assert!(sessions[0].output().len() >= emitted + 100, "it was still decoding");
    assert!(sessions[0].stats().accepted > 0, "it was drafting");
    found
}

fn sampled() -> Sampling {
    let config = SamplingConfig {
        temperature: 0.7,
        top_k: 20,
        top_p: 0.95,
        min_p: 0.01,
        repeat_penalty: 1.1,
        seed: 1,
        sample_index: 0,
    };
    Sampling::new(config).unwrap()
}

fn recycling() -> TokenRecycling {
    TokenRecycling::new(AdjacencyMatrix::new(48, 8).unwrap(), TreeTemplate::paper_80())
}

#[test]
fn a_step_with_token_recycling_allocates_nothing() {
    assert_eq!(allocations(recycling(), Sampling::greedy()), 0);
    assert_eq!(allocations(recycling(), sampled()), 0);
}

#[test]
fn a_step_with_prompt_lookup_allocates_nothing() {
    assert_eq!(allocations(PromptLookup::default(), Sampling::greedy()), 0);
    assert_eq!(allocations(PromptLookup::default(), sampled()), 0);
}

#[test]
fn a_step_with_all_sources_and_an_automatic_budget_allocates_nothing() {
    for sampling in [Sampling::greedy(), sampled()] {
        let mut corpus = CorpusBuilder::new(48, 4096);
        corpus.push(&(0..400).map(|at| at * 7 % 48).collect::<Vec<_>>());
        let sources: Vec<Box<dyn CandidateSource>> = vec![
            Box::new(AdjacencySource::new(AdjacencyMatrix::new(48, 8).unwrap())),
            Box::new(NgramCache::new(2, 1 << 16)),
            Box::new(NgramCache::new(3, 1 << 16)),
            Box::new(SuffixMatcher::new(1 << 12)),
            Box::new(TopKHistory::default()),
            Box::new(FrequentTokens::new(48)),
            Box::new(CorpusMatcher::new(Arc::new(corpus.build()))),
        ];
        let model = NaiveVerifier::new(48, 2).with_max_context(16_384).with_max_rows(16);
        let decoder = Decoder::new(model, MixedDrafter::new(sources)).with_clock(Ticking::default());
        let decoder = decoder.with_auto_budget(AutoBudget::new(None));
        assert_eq!(allocations_of(decoder, sampling), 0);
    }
}

#[test]
fn an_allocation_would_be_counted() {
    let before = ALLOCATIONS.get();
    drop(std::hint::black_box(vec![1_u8; 100]));
    assert_eq!(ALLOCATIONS.get(), before + 1);
}
