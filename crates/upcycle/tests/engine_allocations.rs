//! The engine's thread allocates nothing from step to step once its memory has grown.
#![expect(
    unsafe_code,
    reason = "a global allocator can only be written with unsafe; it forwards to the system's"
)]

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use support::{VOCAB, engine_with};
use upcycle::{DrafterSetup, NoOptions, Registry, Request};
use upcycle_core::{
    AdjacencyMatrix, DraftContext, DraftTree, Drafter, Outcome, SamplingConfig, TokenRecycling, TreeTemplate,
};
use upcycle_testkit::NaiveVerifier;

thread_local! {
    /// Whether this thread is not the engine's.
    static READER: Cell<bool> = const { Cell::new(false) };
}

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

struct Counting;

fn count() {
    if !READER.get() {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: every call goes unchanged to the system's allocator. The thread-local cell is neither allocated nor dropped.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller upholds the contract, which is that of the system's allocator.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: the caller upholds the contract, which is that of the system's allocator.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller upholds the contract, which is that of the system's allocator.
        unsafe { System.realloc(place, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Lets the engine's thread draft so many trees at a time, and then stops it. So no answer is far ahead of its reader.
#[derive(Default)]
struct Gate {
    /// Trees that may be drafted, and whether the thread has stopped.
    state: Mutex<(usize, bool)>,
    changed: Condvar,
}

impl Gate {
    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        while state.0 == 0 {
            state.1 = true;
            self.changed.notify_all();
            state = self.changed.wait(state).unwrap();
        }
        state.0 -= 1;
    }

    /// Returns once the thread has stopped again.
    fn open_for(&self, trees: usize) {
        *self.state.lock().unwrap() = (trees, false);
        self.changed.notify_all();
        drop(self.changed.wait_while(self.state.lock().unwrap(), |(_, stopped)| !*stopped).unwrap());
    }

    fn open(&self) {
        *self.state.lock().unwrap() = (usize::MAX, false);
        self.changed.notify_all();
    }
}

/// Token Recycling behind a gate.
struct Gated(Arc<Gate>, TokenRecycling);

impl Drafter for Gated {
    fn draft(&mut self, context: DraftContext<'_>, tree: &mut DraftTree) {
        self.0.pass();
        self.1.draft(context, tree);
    }

    fn observe(&mut self, outcome: &Outcome<'_>) {
        self.1.observe(outcome);
    }

    fn k(&self) -> usize {
        self.1.k()
    }
}

// One test alone in this file: another one's thread would be counted.
#[test]
fn a_step_of_the_engine_allocates_nothing() {
    READER.set(true);
    let gate = Arc::new(Gate::default());
    let mut registry = Registry::builtin();
    let of_drafter = Arc::clone(&gate);
    registry.register_drafter("gated", "for a test", move |_: &NoOptions, _: &DrafterSetup<'_>| {
        let recycling = TokenRecycling::new(AdjacencyMatrix::new(VOCAB, 8)?, TreeTemplate::paper_80());
        Ok(Box::new(Gated(Arc::clone(&of_drafter), recycling)))
    });
    let verifier = NaiveVerifier::new(VOCAB, 7).with_max_context(16_384);
    let engine = engine_with(verifier, &registry, &[("drafter.name", "gated")]);
    let sampling = SamplingConfig { temperature: 0.8, ..SamplingConfig::default() };
    let request = |prompt| Request::tokens([prompt]).max_tokens(16_000).sampling(sampling).unwrap();
    let mut answers = [1, 2].map(|prompt| engine.generate(request(prompt)).unwrap());
    let mut turn = || {
        gate.open_for(100);
        for answer in &mut answers {
            let before = answer.tokens().len();
            assert!(answer.advance().unwrap() && answer.tokens().len() > before);
            while answer.take_piece().is_some() {}
        }
    };
    (0..30).for_each(|_| turn());
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    assert!(before > 0, "the engine's thread is counted");
    (0..5).for_each(|_| turn());
    assert_eq!(ALLOCATIONS.load(Ordering::Relaxed), before);
    drop(answers);
    gate.open();
}
