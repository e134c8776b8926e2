//! The reference on the real model: the backend `cpu` with the file's weights dequantized to f32, as the reference ran it in another
//! language and engine. Free-running, and forced along the reference's trees.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, LazyLock};

use upcycle_core::{
    AdjacencyMatrix, Decoder, DraftContext, DraftTree, Drafter, NodeId, Request, Session, TokenRecycling,
    TreeTemplate,
};
use upcycle_cpu::{CpuVerifier, Model, Options, WeightStorage};
use upcycle_testkit::real_model;
use upcycle_tests::reference;

static MODEL: LazyLock<Arc<Model>> = LazyLock::new(|| {
    let mut options = Options::default();
    options.weights = WeightStorage::F32;
    Model::load(real_model(), &options).unwrap_or_else(|error| panic!("the model loads: {error}"))
});

/// The positions in the output at which steps end.
fn boundaries(emitted: &[u32]) -> HashSet<u32> {
    emitted
        .iter()
        .scan(0, |sum, &n| {
            Some({
                *sum += n;
                *sum
            })
        })
        .collect()
}

fn request(trace: &reference::Trace) -> Request {
    Request { end_of_sequence: vec![trace.eos_id], ..Request::greedy(trace.max_new) }
}

fn finish<D: Drafter>(decoder: &mut Decoder<CpuVerifier, D>, session: &mut [Session; 1]) {
    while session[0].finish_reason().is_none() {
        decoder.step_one(&mut session[0]).unwrap();
    }
}

#[test]
fn the_real_model_says_what_the_reference_says_in_as_many_steps() {
    let trace = reference::trace();
    let verifier = CpuVerifier::new(Arc::clone(&MODEL));
    let matrix = AdjacencyMatrix::new(MODEL.vocab(), trace.k).unwrap();
    let mut decoder = Decoder::new(verifier, TokenRecycling::new(matrix, TreeTemplate::paper_80()));
    let (mut equal, mut shared, mut all, mut emitted, mut steps) = (0, 0, 0, 0, 0);
    for prompt in &trace.prompts {
        let mut session = [decoder.open(&prompt.prompt_ids, request(&trace)).unwrap()];
        finish(&mut decoder, &mut session);
        let [session] = session;
        let same = session.output() == prompt.output_ids;
        assert!(
            same || prompt.min_margin < 1e-3,
            "{}: another text, and no near-tie excuses it",
            prompt.question_id
        );
        equal += usize::from(same);
        let (theirs, ours) = (boundaries(&prompt.accepted), boundaries(&session.stats().emitted_per_step));
        all += theirs.len();
        shared += theirs.intersection(&ours).count();
        emitted += session.stats().emitted_per_step.iter().sum::<u32>();
        steps += session.stats().steps();
        decoder.close(session);
    }
    println!("{equal} of {} texts equal; {shared} of {all} step boundaries shared", trace.prompts.len());
    println!(
        "{:.6} tokens a step, the reference's {:.6}",
        f64::from(emitted) / steps as f64,
        trace.mean_accepted
    );
    assert!(shared * 100 >= all * 99, "at least 99 % of the step boundaries are shared");
}

/// Drafts the reference's trees.
struct Forced {
    trees: HashMap<String, Vec<reference::ReferenceStep>>,
    prompt: String,
    step: usize,
}

impl Drafter for Forced {
    fn draft(&mut self, _: DraftContext<'_>, tree: &mut DraftTree) {
        let script = &self.trees[&self.prompt][self.step];
        self.step += 1;
        let mut nodes = vec![NodeId::ROOT];
        for (&token, &parent) in script.node_tokens.iter().zip(&script.node_parents).skip(1) {
            let parent = usize::try_from(parent).expect("all but the root have a parent");
            nodes.push(tree.push(nodes[parent], token, None).expect("the reference's trees fit"));
        }
    }
}

#[test]
fn forced_along_the_reference_the_real_model_accepts_its_paths() {
    let trace = reference::trace();
    let mut trees: HashMap<String, Vec<_>> = HashMap::new();
    for step in reference::steps() {
        trees.entry(step.question_id.clone()).or_default().push(step);
    }
    let drafter = Forced { trees, prompt: String::new(), step: 0 };
    let mut decoder = Decoder::new(CpuVerifier::new(Arc::clone(&MODEL)), drafter);
    let (mut equal, mut all) = (0, 0);
    for prompt in &trace.prompts {
        decoder.drafter_mut().prompt.clone_from(&prompt.question_id);
        decoder.drafter_mut().step = 0;
        let mut session = [decoder.open(&prompt.prompt_ids, request(&trace)).unwrap()];
        while session[0].finish_reason().is_none() {
            let step = decoder.drafter().step;
            decoder.step(&mut session).unwrap();
            if decoder.drafter().step > step {
                let expected = &decoder.drafter().trees[&prompt.question_id][step];
                let path = session[0].accepted_path().nodes.iter().map(|node| node.index());
                equal += usize::from(path.eq(expected.accepted_path.iter().copied()));
                all += 1;
            }
        }
        let [session] = session;
        decoder.close(session);
    }
    println!("{equal} of {all} accepted paths equal");
    assert_eq!(all, 364);
    assert!(equal >= 362, "{equal} of {all} accepted paths equal");
}
