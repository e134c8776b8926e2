//! Replays the reference's 364 steps through the core, with a verifier that answers from the reference instead of a model. Every tree,
//! path and matrix must be identical.

use std::collections::HashMap;
use std::path::Path;

use sha2::{Digest, Sha256};
use upcycle::{ConfigBuilder, DrafterConfig, RecyclingOptions, Registry};
use upcycle_core::{
    AdjacencyMatrix, Commit, Decoder, Limits, Request, Row, SeqId, Support, TokenRecycling, TopK, TreeInput,
    Verifier, VerifyError,
};
use upcycle_tests::reference::{self, Prompt, ReferenceStep};

const VOCAB: usize = 49152;

/// Answers the passes of one prompt from the reference, and panics on any tree that the reference lacks.
struct Scripted {
    limits: Limits,
    prompts: Vec<(Prompt, Vec<ReferenceStep>)>,
    opened: usize,
    next: usize,
    committed: usize,
    identical: usize,
}

impl Scripted {
    fn current(&self) -> &(Prompt, Vec<ReferenceStep>) {
        &self.prompts[self.opened - 1]
    }
}

impl Verifier for Scripted {
    fn limits(&self) -> &Limits {
        &self.limits
    }

    fn open(&mut self) -> Result<SeqId, VerifyError> {
        self.opened += 1;
        self.next = 0;
        self.committed = 0;
        Ok(SeqId::new(self.opened as u64))
    }

    fn close(&mut self, _: SeqId) {
        assert_eq!(self.next, self.current().1.len(), "every step of the reference is taken");
    }

    fn forward(&mut self, inputs: &[TreeInput<'_>], top: &mut TopK) -> Result<(), VerifyError> {
        let [input] = inputs else { panic!("one sequence at a time") };
        top.reset(inputs, VOCAB);
        let (prompt, script) = &self.prompts[self.opened - 1];
        if self.committed < prompt.prompt_ids.len() {
            // Only the last row of the prompt matters: it gives the first token.
            for index in 0..top.rows() {
                top.candidates_mut(index).0[0] = prompt.output_ids[0];
            }
            return Ok(());
        }
        let expected = &script[self.next];
        assert_eq!(self.committed, expected.prefix_len, "{}, step {}", prompt.question_id, expected.step);
        assert_eq!(
            input.tree.tokens(),
            expected.node_tokens,
            "{}, step {}",
            prompt.question_id,
            expected.step
        );
        let parents = input.tree.nodes().map(|node| input.tree.parent(node).map_or(-1, |p| p.index() as i64));
        assert!(
            parents.eq(expected.node_parents.iter().copied()),
            "{}, step {}",
            prompt.question_id,
            expected.step
        );
        for (index, best) in expected.node_top8.iter().enumerate() {
            top.candidates_mut(index).0.copy_from_slice(best);
        }
        Ok(())
    }

    fn logits(&mut self, row: Row) -> Result<&[f32], VerifyError> {
        panic!("greedy decoding reads no full row, and {row} was read")
    }

    fn commit(&mut self, commits: &[Commit<'_>]) -> Result<(), VerifyError> {
        self.committed += commits[0].path.len();
        let (prompt, script) = &self.prompts[self.opened - 1];
        if self.committed > prompt.prompt_ids.len() {
            let path = &script[self.next].accepted_path;
            let kept: Vec<usize> = commits[0].path.iter().map(|node| node.index()).collect();
            assert_eq!(kept, path[..kept.len()], "{}, step {}", prompt.question_id, self.next);
            self.next += 1;
            self.identical += 1;
        }
        Ok(())
    }

    fn truncate(&mut self, _: SeqId, _: usize) -> Result<(), VerifyError> {
        panic!("nothing is truncated")
    }
}

/// The drafter of `configs/paper.toml`, whatever the defaults are.
fn paper() -> DrafterConfig {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/paper.toml");
    let mut config: toml::Table = std::fs::read_to_string(&file).unwrap().parse().unwrap();
    // Needs no model.
    config.remove("model");
    let mut builder = ConfigBuilder::new(&Registry::builtin());
    builder.text(&file, &config.to_string()).unwrap();
    builder.build().unwrap().drafter().clone()
}

/// The drafter of a configuration, as its own type: the matrix is compared after each step.
fn recycling(config: &DrafterConfig) -> TokenRecycling {
    let options: &RecyclingOptions = config.options().unwrap();
    let template = options.tree.template().unwrap().clone();
    let matrix = AdjacencyMatrix::new(VOCAB, options.k).unwrap();
    TokenRecycling::new(matrix, template).with_prompt_rows(config.prompt_rows().rows(None))
}

/// SHA-256 of the occupied rows in token order, nine little-endian u32 each.
fn digest(matrix: &AdjacencyMatrix) -> String {
    let mut hash = Sha256::new();
    for token in matrix.tokens() {
        hash.update(token.to_le_bytes());
        for candidate in matrix.candidates(token) {
            hash.update(candidate.to_le_bytes());
        }
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The matrix as a map, updated by the reference's rule.
fn observe(model: &mut HashMap<u32, Vec<u32>>, step: &ReferenceStep) {
    let all = 0..step.node_tokens.len();
    for node in all.chain(step.accepted_path.iter().copied()) {
        model.insert(step.node_tokens[node], step.node_top8[node].clone());
    }
}

#[test]
fn the_reference_is_reproduced_364_of_364() {
    let trace = reference::trace();
    let mut by_prompt: HashMap<String, Vec<ReferenceStep>> = HashMap::new();
    for step in reference::steps() {
        by_prompt.entry(step.question_id.clone()).or_default().push(step);
    }
    let total: usize = by_prompt.values().map(Vec::len).sum();
    let prompts: Vec<_> = trace
        .prompts
        .into_iter()
        .map(|prompt| {
            let steps = by_prompt.remove(&prompt.question_id).expect("every prompt has steps");
            (prompt, steps)
        })
        .collect();
    let asked: Vec<Vec<u32>> = prompts.iter().map(|(prompt, _)| prompt.prompt_ids.clone()).collect();
    let limits = Limits {
        vocab: VOCAB,
        max_context: 8192,
        max_rows: 512,
        max_leaves: 512,
        max_seqs: 1,
        support: Support::Tree,
    };
    let verifier = Scripted { limits, prompts, opened: 0, next: 0, committed: 0, identical: 0 };
    let paper = paper();
    let drafter = recycling(&paper);
    let mut decoder = Decoder::new(verifier, drafter).with_budget(paper.budget().nodes().unwrap());

    let mut model = HashMap::new();
    let (mut emitted, mut steps) = (0, 0);
    for ids in asked {
        let request = Request { end_of_sequence: vec![trace.eos_id], ..Request::greedy(trace.max_new) };
        let mut session = [decoder.open(&ids, request).unwrap()];
        while session[0].finish_reason().is_none() {
            let before = decoder.verifier().next;
            decoder.step(&mut session).unwrap();
            let (_, script) = decoder.verifier().current();
            if decoder.verifier().next > before {
                let expected = &script[before];
                observe(&mut model, expected);
                let walk = session[0].accepted_path();
                assert_eq!(walk.sampled, expected.emitted_untruncated);
                assert!(walk.nodes.iter().map(|n| n.index()).eq(expected.accepted_path.iter().copied()));
                for token in &expected.node_tokens {
                    assert!(decoder.drafter().matrix().candidates(*token).eq(model[token].iter().copied()));
                }
            }
        }
        let [session] = session;
        let (prompt, _) = decoder.verifier().current();
        assert_eq!(session.output(), prompt.output_ids);
        assert_eq!(session.stats().emitted_per_step, prompt.accepted);
        assert_eq!(decoder.drafter().matrix().filled_rows(), prompt.matrix_rows_after);
        assert_eq!(digest(decoder.drafter().matrix()), prompt.matrix_digest);
        emitted += session.stats().emitted_per_step.iter().sum::<u32>();
        steps += session.stats().steps();
        decoder.close(session);
    }
    assert_eq!((decoder.verifier().identical, total), (364, 364));
    let mean = f64::from(emitted) / steps as f64;
    assert!((mean - trace.mean_accepted).abs() < 1e-6, "{mean} accepted tokens a step");
    println!("{} of {total} steps identical, {mean:.6} tokens a step", decoder.verifier().identical);
}
