//! Trees and sequential decoding give the same bits: real prompts, quantized weights, the paper's tree of 80 nodes. Every accepted node is
//! scored again in a pass of its own, and in each step the path to one rejected leaf.
//!
//! `UPCYCLE_BITWISE_PROMPTS` sets how many prompts there are.

use std::sync::Arc;

use upcycle::{Config, ConfigBuilder, LoadedModel, PromptStyle, Registry};
use upcycle_bench::prompts::PromptSet;
use upcycle_core::{
    AdjacencyMatrix, Commit, Decoder, DraftTree, Limits, NodeId, Request, Row, RowSelection, SeqId, TokenId,
    TokenRecycling, TopK, TreeInput, TreeTemplate, Verifier, VerifyError,
};
use upcycle_cpu::{CpuVerifier, Model, Options};

/// Prompts of a run in the normal suite.
const PROMPTS: usize = 5;
const STEPS: usize = 64;

/// Scores everything a second time in another sequence, and compares whole rows of logits.
struct Twice {
    inner: CpuVerifier,
    /// The one open sequence and its twin.
    pair: Option<(SeqId, SeqId)>,
    tree: DraftTree,
    rows: RowSelection,
    passes: usize,
    accepted: usize,
    rejected: usize,
}

impl Twice {
    /// The logits of `node` of the last pass, as bits.
    fn bits(&mut self, node: usize) -> Vec<u32> {
        let row = self.inner.logits(Row { input: 0, node }).unwrap();
        row.iter().map(|logit| logit.to_bits()).collect()
    }

    /// The logits of every row of a chain after the twin's committed tokens; nothing is committed.
    fn chain(&mut self, twin: SeqId, tokens: &[TokenId]) -> Vec<Vec<u32>> {
        let tree = DraftTree::chain(tokens);
        let input = TreeInput { seq: twin, tree: &tree, rows: RowSelection::All };
        self.inner.forward(&[input], &mut TopK::new(1)).unwrap();
        (0..tokens.len()).map(|node| self.bits(node)).collect()
    }

    /// The path to a rejected leaf, a different one in each step.
    fn rejected(&self, path: &[NodeId]) -> Option<Vec<usize>> {
        let parents = self.tree.parents();
        let leaf = |node: &usize| {
            !parents[1..].contains(&(*node as u32)) && path.iter().all(|kept| kept.index() != *node)
        };
        let leaves: Vec<usize> = (1..self.tree.len()).filter(leaf).collect();
        let mut node = *leaves.get(self.passes % leaves.len().max(1))?;
        let mut route = vec![node];
        while node > 0 {
            node = parents[node] as usize;
            route.push(node);
        }
        route.reverse();
        Some(route)
    }
}

impl Verifier for Twice {
    fn limits(&self) -> &Limits {
        self.inner.limits()
    }

    fn open(&mut self) -> Result<SeqId, VerifyError> {
        let pair = (self.inner.open()?, self.inner.open()?);
        self.pair = Some(pair);
        Ok(pair.0)
    }

    fn close(&mut self, _: SeqId) {
        if let Some((seq, twin)) = self.pair.take() {
            self.inner.close(seq);
            self.inner.close(twin);
        }
    }

    fn forward(&mut self, inputs: &[TreeInput<'_>], top: &mut TopK) -> Result<(), VerifyError> {
        let [input] = inputs else { panic!("one sequence at a time") };
        self.tree.clone_from(input.tree);
        self.rows = input.rows;
        self.passes += 1;
        self.inner.forward(inputs, top)
    }

    fn logits(&mut self, row: Row) -> Result<&[f32], VerifyError> {
        self.inner.logits(row)
    }

    fn commit(&mut self, commits: &[Commit<'_>]) -> Result<(), VerifyError> {
        let [Commit { path, .. }] = commits else { panic!("one sequence at a time") };
        let (_, twin) = self.pair.expect("an open sequence");
        let prompt = !matches!(self.rows, RowSelection::All);
        let scored: Vec<usize> = match prompt {
            true => vec![self.tree.len() - 1],
            false => (0..self.tree.len()).collect(),
        };
        let tree: Vec<Vec<u32>> = scored.iter().map(|&node| self.bits(node)).collect();
        self.inner.commit(commits)?;
        if !prompt && let Some(route) = self.rejected(path) {
            let tokens: Vec<TokenId> = route.iter().map(|&node| self.tree.tokens()[node]).collect();
            for (alone, node) in self.chain(twin, &tokens).into_iter().zip(route) {
                assert!(alone == tree[node], "node {node} of a rejected path in pass {}", self.passes);
            }
            self.rejected += 1;
        }
        for node in path.iter().map(|node| node.index()) {
            let token = self.tree.tokens()[node];
            let [alone] = &self.chain(twin, &[token])[..] else { panic!("one row") };
            if let Some(place) = scored.iter().position(|&scored| scored == node) {
                assert!(*alone == tree[place], "node {node}, accepted in pass {}", self.passes);
                self.accepted += 1;
            }
            self.inner.commit(&[Commit { seq: twin, path: &[NodeId::ROOT] }])?;
        }
        Ok(())
    }

    fn truncate(&mut self, seq: SeqId, len: usize) -> Result<(), VerifyError> {
        self.inner.truncate(seq, len)
    }
}

#[test]
fn trees_of_80_nodes_give_the_bits_of_sequential_decoding() {
    let registry = Registry::builtin();
    let mut builder = ConfigBuilder::new(&registry);
    builder.flag("a test", "model.path", &upcycle_testkit::real_model().display().to_string()).unwrap();
    let config: Config = builder.build().unwrap();
    let text = LoadedModel::load(&config, &registry, &mut |_| {}).unwrap().text;
    let model = Model::load(upcycle_testkit::real_model(), &Options::default()).unwrap();
    let twice = Twice {
        inner: CpuVerifier::new(Arc::clone(&model)),
        pair: None,
        tree: DraftTree::new(),
        rows: RowSelection::All,
        passes: 0,
        accepted: 0,
        rejected: 0,
    };
    let matrix = AdjacencyMatrix::new(model.vocab(), 8).unwrap();
    let mut decoder = Decoder::new(twice, TokenRecycling::new(matrix, TreeTemplate::paper_80()));
    let own = PromptSet::built_in();
    let prompts = std::env::var("UPCYCLE_BITWISE_PROMPTS").map_or(PROMPTS, |count| count.parse().unwrap());
    let mut steps = 0;
    for prompt in own.first_of_each_group(prompts.div_ceil(7)).into_iter().take(prompts) {
        let prompt = text.encode(prompt.first_turn(), PromptStyle::Chat).unwrap();
        let mut session = [decoder.open(&prompt, Request::greedy(4 * STEPS)).unwrap()];
        while session[0].finish_reason().is_none() && session[0].stats().steps() < STEPS {
            decoder.step(&mut session).unwrap();
        }
        let [session] = session;
        steps += session.stats().steps();
        decoder.close(session);
    }
    let Twice { accepted, rejected, .. } = decoder.into_parts().0;
    println!("{steps} steps: {accepted} accepted nodes and {rejected} rejected paths have the same bits");
    assert!(steps > prompts * STEPS / 2 && accepted > steps && rejected > steps / 2);
}
