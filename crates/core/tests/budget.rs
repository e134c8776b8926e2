//! The automatic budget on simulated machines.

use std::time::Duration;

use upcycle_core::{
    AutoBudget, Commit, CostCurve, Decoder, DraftContext, DraftTree, Drafter, Limits, NodeId, NullDrafter,
    Request, Row, SeqId, TokenId, TopK, TreeInput, Verifier, VerifyError,
};
use upcycle_testkit::{AdversarialDrafter, ManualClock, NaiveVerifier};

/// The seconds of pass number `pass` with `rows` rows.
type Cost = fn(rows: usize, pass: usize) -> f64;

/// The naive verifier on a simulated machine: a pass takes what `cost` says, with some noise.
struct Costed {
    inner: NaiveVerifier,
    clock: ManualClock,
    cost: Cost,
    passes: usize,
    /// The factor on a pass that follows one of more rows.
    after_wider: f64,
    last_rows: usize,
}

impl Verifier for Costed {
    fn limits(&self) -> &Limits {
        self.inner.limits()
    }
    fn open(&mut self) -> Result<SeqId, VerifyError> {
        self.inner.open()
    }
    fn close(&mut self, seq: SeqId) {
        self.inner.close(seq);
    }
    fn forward(&mut self, inputs: &[TreeInput<'_>], top: &mut TopK) -> Result<(), VerifyError> {
        let rows = inputs.iter().map(|input| input.tree.len()).sum();
        self.passes += 1;
        // Noise of 3 %, and every 97th pass takes three times as long.
        let noise = (self.passes * 7919 % 61) as f64 / 1000.0 - 0.03;
        let spike = if self.passes % 97 == 50 { 3.0 } else { 1.0 };
        let after_wider = if rows < self.last_rows { self.after_wider } else { 1.0 };
        self.last_rows = rows;
        let seconds = (self.cost)(rows, self.passes) * (1.0 + noise) * spike * after_wider;
        self.clock.advance(Duration::from_secs_f64(seconds));
        self.inner.forward(inputs, top)
    }
    fn logits(&mut self, row: Row) -> Result<&[f32], VerifyError> {
        self.inner.logits(row)
    }
    fn commit(&mut self, commits: &[Commit<'_>]) -> Result<(), VerifyError> {
        self.inner.commit(commits)
    }
    fn truncate(&mut self, seq: SeqId, len: usize) -> Result<(), VerifyError> {
        self.inner.truncate(seq, len)
    }
}

/// Drafts a chain in which each token is right with the probability that is claimed for it.
#[derive(Clone)]
struct Fallible {
    text: Vec<TokenId>,
    hit_rate: f32,
    seed: u64,
}

impl Drafter for Fallible {
    fn draft(&mut self, context: DraftContext<'_>, tree: &mut DraftTree) {
        let mut above = NodeId::ROOT;
        for (ahead, &token) in self.text[context.tokens.len()..].iter().take(24).enumerate() {
            let place = (context.tokens.len() as u64) << 8 | ahead as u64;
            let hash = (place ^ self.seed).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let hash = (hash ^ hash >> 31).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 40;
            let right = (hash as f32) < self.hit_rate * (1_u64 << 24) as f32;
            let token = if right { token } else { (token + 1) % 64 };
            match tree.push(above, token, Some(self.hit_rate)) {
                Ok(node) => above = node,
                Err(_) => return,
            }
        }
    }
}

const TOKENS: usize = 400;

fn plain_text(seed: u64) -> Vec<TokenId> {
    let mut decoder = Decoder::new(NaiveVerifier::new(64, seed), NullDrafter);
    let text: Result<Vec<_>, _> = decoder.generate(&[1, 2, 3], Request::greedy(TOKENS)).unwrap().collect();
    [1, 2, 3].into_iter().chain(text.unwrap()).collect()
}

enum Size {
    Fixed(usize),
    Auto(Box<AutoBudget>),
}

/// The seconds of the answer without its prompt, and the mean draft nodes of a pass.
fn run(seed: u64, cost: Cost, drafter: impl Drafter, size: Size) -> (f64, f64) {
    run_for(TOKENS, seed, cost, drafter, size)
}

fn run_for(tokens: usize, seed: u64, cost: Cost, drafter: impl Drafter, size: Size) -> (f64, f64) {
    run_on(1.0, tokens, seed, cost, drafter, size)
}

fn run_on(
    after_wider: f64,
    tokens: usize,
    seed: u64,
    cost: Cost,
    drafter: impl Drafter,
    size: Size,
) -> (f64, f64) {
    let clock = ManualClock::default();
    let inner = NaiveVerifier::new(64, seed);
    let verifier = Costed { inner, clock: clock.clone(), cost, passes: 0, after_wider, last_rows: 0 };
    let decoder = Decoder::new(verifier, drafter).with_clock(clock.clone());
    let mut decoder = match size {
        Size::Fixed(nodes) => decoder.with_budget(nodes),
        Size::Auto(budget) => decoder.with_auto_budget(*budget),
    };
    let mut generation = decoder.generate(&[1, 2, 3], Request::greedy(tokens)).unwrap();
    let text: Result<Vec<_>, _> = generation.by_ref().collect();
    let (time, mean) =
        (generation.stats().time.decode().as_secs_f64(), generation.stats().drafted_per_step());
    drop(generation);
    assert_eq!(text.unwrap(), plain_text(seed)[3..3 + tokens], "the size must not change the text");
    (time, mean)
}

fn best_fixed(seed: u64, cost: Cost, drafter: &Fallible) -> (f64, usize) {
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 20, 24]
        .into_iter()
        .map(|nodes| (run(seed, cost, drafter.clone(), Size::Fixed(nodes)).0, nodes))
        .min_by(|a, b| a.0.total_cmp(&b.0))
        .unwrap()
}

const COSTS: [(&str, Cost); 8] = [
    ("flat", |_, _| 0.010),
    ("linear, steep", |rows, _| 0.001 + 0.009 * rows as f64),
    ("linear", |rows, _| 0.008 + 0.002 * rows as f64),
    ("convex", |rows, _| 0.010 + 0.0004 * (rows * rows - 1) as f64),
    ("stepped", |rows, _| 0.010 * (1.0 + 0.4 * ((rows - 1) / 4) as f64)),
    ("drifting", |rows, pass| (0.008 + 0.001 * rows as f64) * (1.0 + pass as f64 / 150.0)),
    ("twice as slow from pass 60 on", |rows, pass| {
        (0.008 + 0.001 * rows as f64) * if pass > 60 { 2.0 } else { 1.0 }
    }),
    // A shared machine, limited by memory and by arithmetic in turn.
    ("steeper for a while, in turn", |rows, pass| {
        if pass / 80 % 2 == 0 { 0.0058 + 0.0003 * rows as f64 } else { 0.0070 + 0.0018 * rows as f64 }
    }),
];

#[test]
fn the_chosen_size_takes_at_most_5_percent_more_on_average_and_30_at_worst() {
    let mut worst: f64 = 0.0;
    let (mut sum, mut count) = (0.0, 0.0);
    for (name, cost) in COSTS {
        for hit_rate in [0.15, 0.4, 0.7, 0.9] {
            let seed = 5;
            let drafter = Fallible { text: plain_text(seed), hit_rate, seed };
            let (best, nodes) = best_fixed(seed, cost, &drafter);
            let (auto, mean) = run(seed, cost, drafter, Size::Auto(Box::new(AutoBudget::new(None))));
            println!("{name:30} {hit_rate}: best {nodes:2} auto {mean:5.1} {:.3}", auto / best);
            worst = worst.max(auto / best);
            sum += auto / best;
            count += 1.0;
        }
    }
    println!("mean {:.4}, worst {worst:.3}", sum / count);
    assert!(sum / count < 1.05, "{:.3} of the best on average", sum / count);
    // At worst the cost curve changes while large drafts pay.
    assert!(worst < 1.3, "{worst:.3} of the best");
}

#[test]
fn drafts_that_are_always_wrong_cost_at_most_5_percent() {
    for (name, cost) in COSTS {
        let plain = run(5, cost, NullDrafter, Size::Fixed(0)).0;
        let text = plain_text(5);
        let drafter = AdversarialDrafter::new(vec![text], 64);
        let (auto, mean) = run(5, cost, drafter, Size::Auto(Box::new(AutoBudget::new(None))));
        println!("{name:30} auto {mean:.2} {:.3}", auto / plain);
        assert!(auto <= plain * 1.05, "{name}: {:.3} of plain", auto / plain);
    }
}

#[test]
fn wrong_drafts_cost_at_most_5_percent_of_a_short_first_answer() {
    for (name, cost) in COSTS {
        let points = [1, 2, 4, 8, 16].map(|rows| (rows, cost(rows, 0)));
        let saved = CostCurve::new(String::new(), vec![(32, points.to_vec())]).unwrap();
        let plain = run_for(96, 5, cost, NullDrafter, Size::Fixed(0)).0;
        let drafter = AdversarialDrafter::new(vec![plain_text(5)], 64);
        let budget = Size::Auto(Box::new(AutoBudget::new(Some(saved))));
        let (auto, mean) = run_for(96, 5, cost, drafter, budget);
        println!("{name:30} auto {mean:.2} {:.3}", auto / plain);
        assert!(auto <= plain * 1.05, "{name}: {:.3} of plain", auto / plain);
    }
}

#[test]
fn plain_passes_are_compared_without_the_slowdown_after_drafts() {
    // After a pass of two rows one row takes as long as two, so that a draft seems to cost nothing.
    let cost: Cost = |rows, _| 0.003 + if rows > 1 { 0.0013 + 0.0002 * rows as f64 } else { 0.0 };
    let (mut sum, mut plain) = (0.0, 0.0);
    for seed in 0..6 {
        let text = plain_text(seed);
        let drafter = Fallible { text, hit_rate: 0.3, seed };
        let points = [1, 2, 4, 8].map(|rows| (rows, if rows == 1 { 0.0045 } else { cost(rows, 0) }));
        let saved = CostCurve::new(String::new(), vec![(32, points.to_vec())]).unwrap();
        let auto = Size::Auto(Box::new(AutoBudget::new(Some(saved))));
        sum += run_on(1.5, TOKENS, seed, cost, drafter.clone(), auto).0;
        plain += run_on(1.5, TOKENS, seed, cost, drafter, Size::Fixed(0)).0;
    }
    println!("auto {:.3} of plain", sum / plain);
    // A budget that learns from every plain pass alike never finds out, and takes 1.23 times as long.
    assert!(sum < plain * 1.1, "{:.3} of plain", sum / plain);
}

/// The seconds of an answer of 96 tokens over those of the best fixed size. The saved curve is `timed`; the machine takes
/// `cost`.
fn after_a_change(hit_rate: f32, timed: Cost, cost: Cost) -> f64 {
    let points = [1, 2, 3, 4, 6, 8, 12, 16].map(|rows| (rows, timed(rows, 0)));
    let (mut sum, mut best) = (0.0, 0.0);
    for seed in 0..8 {
        let drafter = Fallible { text: plain_text(seed), hit_rate, seed };
        let saved = CostCurve::new(String::new(), vec![(32, points.to_vec())]).unwrap();
        let budget = Size::Auto(Box::new(AutoBudget::new(Some(saved))));
        sum += run_for(96, seed, cost, drafter.clone(), budget).0;
        let fixed = |nodes| run_for(96, seed, cost, drafter.clone(), Size::Fixed(nodes)).0;
        best += [0, 1, 2, 3, 4, 6, 8, 12].map(fixed).into_iter().fold(f64::INFINITY, f64::min);
    }
    sum / best
}

#[test]
fn a_saved_curve_of_another_machine_state_is_soon_corrected() {
    let bound_by_memory: Cost = |rows, _| 0.0058 + 0.0003 * rows as f64;
    let bound_by_arithmetic: Cost = |rows, _| 0.0070 + 0.0018 * rows as f64;
    let mut found = Vec::new();
    for hit_rate in [0.1, 0.2, 0.3, 0.5, 0.8] {
        let steeper = after_a_change(hit_rate, bound_by_memory, bound_by_arithmetic);
        let flatter = after_a_change(hit_rate, bound_by_arithmetic, bound_by_memory);
        println!(
            "hit_rate {hit_rate}: {steeper:.3} of the best where costs are steeper, {flatter:.3} where flatter"
        );
        found.extend([steeper, flatter]);
    }
    let mean = found.iter().sum::<f64>() / found.len() as f64;
    let worst = found.iter().copied().fold(0.0, f64::max);
    println!("mean {mean:.4}, worst {worst:.3}");
    assert!(mean < 1.1, "{mean:.3} of the best on average");
    // Large drafts end the answer within twenty steps, before the costs are corrected.
    assert!(worst < 1.4, "{worst:.3} of the best");
}
