//! Logistic mixing of the sources' predictions into one calibrated probability for each candidate, learned online.
//!
//! The method is that of context-mixing compressors (Mahoney, "Adaptive weighing of context models for lossless data
//! compression", 2005):
//!
//! 1. A source puts each token that it proposes into a confidence bin. For each bin the mixer keeps the hit rate: how often such
//!    a token came next.
//! 2. A candidate of one source may be missing among the proposals of another, which speaks against it. For each bin the mixer
//!    also keeps how often such a candidate came next while the other source's best proposal was in that bin. For that source
//!    this rate replaces the hit rate.
//! 3. The log-odds of these rates are summed with weights, plus a bias. The sigmoid of the sum is the probability.
//! 4. Each set of sources that propose in the same context has its own weights and bias. Both follow the gradient of the log
//!    loss after every sampled token.

use crate::mixed::source::{CandidateSource, MAX_SOURCES, Proposals};
use crate::token::TokenId;

/// The learning rate of the weights. The weights of a new set start with `1 + EXTRA_RATE` times this rate.
const LEARNING_RATE: f32 = 0.02;
const EXTRA_RATE: f32 = 2.0;
/// A hit rate is an average over about this many of the latest guesses.
const MEMORY: f32 = 120.0;
/// The prior of a bin counts as this many guesses.
const PRIOR: f32 = 12.0;
/// The initial weights of a set of several sources sum to 1 plus up to this, because sources that agree are more certain than
/// their mean.
const AGREEMENT_BONUS: f32 = 0.35;
/// The initial hit rate of tokens that a source does not propose while it proposes others.
const NOT_PROPOSED_PRIOR: f32 = 0.015;

/// How often guesses of one kind come true.
#[derive(Clone, Copy, Debug)]
struct HitRate {
    rate: f32,
    log_odds: f32,
    seen: f32,
}

impl HitRate {
    fn new(prior: f32) -> Self {
        Self { rate: prior, log_odds: log_odds(prior), seen: PRIOR }
    }

    fn learn(&mut self, hit: f32) {
        self.seen = (self.seen + 1.0).min(MEMORY);
        self.rate += (hit - self.rate) / self.seen;
        self.rate = self.rate.clamp(0.0005, 0.9995);
        self.log_odds = log_odds(self.rate);
    }
}

fn log_odds(p: f32) -> f32 {
    (p / (1.0 - p)).ln()
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// A token that at least one source proposes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub(super) token: TokenId,
    pub(super) probability: f32,
    /// By source: its confidence bin for the token; `None` if it does not propose the token.
    bins: [Option<u8>; MAX_SOURCES],
}

impl Candidate {
    /// The sources that propose it: bit `i` stands for source `i`.
    pub(super) fn source_bits(&self) -> u8 {
        bits(&self.bins)
    }
}

/// The proposals of all sources in one context. Equal tokens are one candidate.
#[derive(Clone, Debug, Default)]
pub(super) struct MergedCandidates {
    pub(super) candidates: Vec<Candidate>,
    /// By source: the bin of its best proposal; `None` if it proposes nothing.
    best_bins: [Option<u8>; MAX_SOURCES],
}

impl MergedCandidates {
    pub(super) fn clear(&mut self) {
        self.candidates.clear();
        self.best_bins = [None; MAX_SOURCES];
    }

    pub(super) fn add(&mut self, source: usize, proposals: &Proposals) {
        self.best_bins[source] = proposals.items().first().map(|&(_, bin)| bin);
        for &(token, bin) in proposals.items() {
            match self.candidates.iter_mut().find(|candidate| candidate.token == token) {
                Some(candidate) => candidate.bins[source] = Some(bin),
                None => {
                    let mut bins = [None; MAX_SOURCES];
                    bins[source] = Some(bin);
                    self.candidates.push(Candidate { token, probability: 0.0, bins });
                }
            }
        }
    }

    /// The index of the set of sources that propose something here.
    fn source_set(&self) -> usize {
        usize::from(bits(&self.best_bins))
    }
}

fn bits(bins: &[Option<u8>; MAX_SOURCES]) -> u8 {
    bins.iter().enumerate().map(|(source, bin)| u8::from(bin.is_some()) << source).sum()
}

/// The weights of one set of sources.
#[derive(Clone, Debug)]
struct Weights {
    sources: [f32; MAX_SOURCES],
    bias: f32,
    /// How often they were learned.
    seen: f32,
}

/// The hit rates of one source.
#[derive(Clone, Debug)]
struct SourceRates {
    bins: usize,
    /// `[2 * bins]`: of tokens proposed with each bin, then of tokens not proposed while its best proposal had that bin.
    rates: Vec<HitRate>,
}

impl SourceRates {
    fn new(source: &dyn CandidateSource) -> Self {
        let bins = source.confidence_bins().clamp(1, 256);
        let proposed = (0..bins).map(|bin| HitRate::new(source.prior_hit_rate(bin as u8).clamp(0.001, 0.99)));
        let not_proposed = std::iter::repeat_n(HitRate::new(NOT_PROPOSED_PRIOR), bins);
        Self { bins, rates: proposed.chain(not_proposed).collect() }
    }

    /// The index of the rate for a candidate that the source proposes with `bin`, or does not propose (`None`). Returns `None`
    /// if the source proposes nothing. A bin out of range counts as the last.
    fn index(&self, bin: Option<u8>, best: Option<u8>) -> Option<usize> {
        let in_range = |bin: u8| usize::from(bin).min(self.bins - 1);
        bin.map(in_range).or_else(|| Some(self.bins + in_range(best?)))
    }
}

#[derive(Clone, Debug)]
pub(super) struct Mixer {
    rates: Vec<SourceRates>,
    /// By set of sources, `[2^sources]`.
    weights: Vec<Weights>,
}

impl Mixer {
    pub(super) fn new(sources: &[Box<dyn CandidateSource>]) -> Self {
        let weights = |set: usize| {
            let member = |source: &usize| set >> source & 1 == 1;
            let members = || (0..sources.len()).filter(member);
            let sum: f32 = members().map(|source| sources[source].initial_weight()).sum();
            let scale = 1.0 + AGREEMENT_BONUS * (1.0 - 1.0 / set.count_ones().max(1) as f32);
            let mut weights = Weights { sources: [0.0; MAX_SOURCES], bias: 0.0, seen: 0.0 };
            for source in members() {
                weights.sources[source] = scale * sources[source].initial_weight() / sum;
            }
            weights
        };
        Self {
            rates: sources.iter().map(|source| SourceRates::new(&**source)).collect(),
            weights: (0..1 << sources.len()).map(weights).collect(),
        }
    }

    /// The log-odds of each source for `candidate`; 0 for a source that proposes nothing.
    fn inputs(&self, merged: &MergedCandidates, candidate: &Candidate) -> [f32; MAX_SOURCES] {
        let mut inputs = [0.0; MAX_SOURCES];
        for (source, (input, rates)) in inputs.iter_mut().zip(&self.rates).enumerate() {
            if let Some(index) = rates.index(candidate.bins[source], merged.best_bins[source]) {
                *input = rates.rates[index].log_odds;
            }
        }
        inputs
    }

    /// Sets the probability of every candidate.
    pub(super) fn mix(&self, merged: &mut MergedCandidates) {
        let weights = &self.weights[merged.source_set()];
        for index in 0..merged.candidates.len() {
            let inputs = self.inputs(merged, &merged.candidates[index]);
            let sum: f32 = inputs.iter().zip(weights.sources).map(|(input, weight)| input * weight).sum();
            merged.candidates[index].probability = sigmoid(sum + weights.bias);
        }
    }

    /// Learns that `token` followed in a context whose candidates were mixed by [`mix`](Self::mix).
    pub(super) fn learn(&mut self, merged: &MergedCandidates, token: TokenId) {
        let set = merged.source_set();
        self.weights[set].seen += 1.0;
        let learning_rate = LEARNING_RATE * (1.0 + EXTRA_RATE / (1.0 + self.weights[set].seen / 10.0));
        for candidate in &merged.candidates {
            let hit = if candidate.token == token { 1.0 } else { 0.0 };
            let inputs = self.inputs(merged, candidate);
            let step = learning_rate * (hit - candidate.probability);
            let weights = &mut self.weights[set];
            for (weight, input) in weights.sources.iter_mut().zip(inputs) {
                *weight += step * input;
            }
            weights.bias += step;
            for (source, rates) in self.rates.iter_mut().enumerate() {
                if let Some(index) = rates.index(candidate.bins[source], merged.best_bins[source]) {
                    rates.rates[index].learn(hit);
                }
            }
        }
    }
}
