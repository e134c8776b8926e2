//! Many steps, sequences and verifiers on one process: none of them keeps memory. Alone in its program, since it reads the
//! memory of the whole.

use upcycle_core::Verifier;
use upcycle_llama_cpp::{LlamaVerifier, Model, Options};
use upcycle_testkit::tiny::{Tiny, step, tree, write};

fn options() -> Options {
    Options { threads: 1.try_into().ok(), n_ctx: 256.try_into().ok(), ..Options::default() }
}

/// The pages that this process has in memory.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/statm").expect("Linux has it");
    status.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("pages")
}

/// Each tenth of `rounds` the pages in memory; those after the second and the last differ by less than 4 MiB.
fn flat(what: &str, rounds: usize, mut round: impl FnMut()) {
    let mut pages = Vec::new();
    for number in 0..rounds {
        round();
        if (number + 1) % (rounds / 10) == 0 {
            pages.push(resident());
        }
    }
    let (first, last) = (pages[1], pages[pages.len() - 1]);
    assert!(last < first + 1024, "{what}: pages after each tenth: {pages:?}");
}

#[test]
fn nothing_that_comes_and_goes_keeps_memory() {
    let file = write(&Tiny::default().writer(None));
    let model = Model::load(file.path(), &options()).expect("a sound model");
    let mut verifier = LlamaVerifier::new(model.clone()).expect("a small context");
    let tree = tree();
    // 1,000 rounds of opening, ten steps and closing: 10,000 steps.
    flat("steps", 1000, || {
        let seq = verifier.open().expect("room for one");
        for _ in 0..10 {
            step(&mut verifier, seq, &tree).expect("a step");
        }
        verifier.truncate(seq, 7).expect("a rollback");
        verifier.close(seq);
    });
    flat("verifiers", 100, || drop(LlamaVerifier::new(model.clone()).expect("a small context")));
    flat("models", 100, || drop(Model::load(file.path(), &options()).expect("a sound model")));
    let broken = write(&Tiny::default().writer(Some("output_norm.weight")));
    flat("refusals", 100, || assert!(Model::load(broken.path(), &options()).is_err()));
}
