//! Whether anything piles up: alone in its process, so that nothing else moves its memory.
#![cfg(target_os = "linux")]

#[path = "it/support.rs"]
mod support;

use upcycle_core::Verifier;
use upcycle_onnx::export::WeightType;
use upcycle_ort::{Memory, OrtVerifier};

use support::{Export, Tiny, load, step, tree};

/// The pages that this process has in memory.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/statm").expect("Linux has it");
    status.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("pages")
}

#[test]
fn ten_thousand_steps_leave_the_memory_as_it_was() -> Result<(), Box<dyn std::error::Error>> {
    let folder = Tiny::default().export(WeightType::F32);
    let model = load(&folder.path);
    let tree = tree();
    for memory in [Memory::Host, Memory::Device] {
        let mut verifier = OrtVerifier::with_memory(model.clone(), memory)?;
        let mut pages = Vec::new();
        for round in 0..100 {
            let seq = verifier.open()?;
            for _ in 0..100 {
                if verifier.committed(seq).is_some_and(|committed| committed > 120) {
                    verifier.truncate(seq, 20)?;
                }
                step(&mut verifier, seq, &tree)?;
            }
            verifier.close(seq);
            if round % 10 == 9 {
                pages.push(resident());
            }
        }
        // 4 MiB: half a kilobyte for each of the steps between.
        let (first, last) = (pages[1], pages[pages.len() - 1]);
        assert!(last < first + 1024, "{memory:?}: pages after each thousand steps: {pages:?}");
    }
    Ok(())
}
