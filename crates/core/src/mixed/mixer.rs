//! Mixing: from several sources' grades to one calibrated probability, learned on line.

use super::source::{MAX_SOURCES, Proposals, Source};
use crate::TokenId;

/// How often guesses of one kind came true.
#[derive(Clone, Copy, Debug)]
struct Share {
    p: f32,
    /// `ln(p / (1 - p))`.
    logit: f32,
    seen: f32,
}

impl Share {
    fn new(p: f32, seen: f32) -> Self {
        Self { p, logit: logit(p), seen }
    }

    fn learn(&mut self, came_true: f32) {
        self.seen = (self.seen + 1.0).min(MEMORY);
        self.p += (came_true - self.p) / (self.seen + 0.5);
        self.p = self.p.clamp(0.0005, 0.9995);
        self.logit = logit(self.p);
    }
}

pub(crate) fn logit(p: f32) -> f32 {
    (p / (1.0 - p)).ln()
}

fn squash(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// A token that some source proposes at a place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate {
    pub(crate) token: TokenId,
    pub(crate) p: f32,
    /// By source: the grade + 1; 0 where it does not propose this token.
    pub(crate) grades: [u16; MAX_SOURCES],
}

impl Candidate {
    /// The sources that propose it, as bits.
    pub(crate) fn label(&self) -> u8 {
        self.grades.iter().enumerate().map(|(source, &grade)| u8::from(grade > 0) << source).sum()
    }
}

/// What all sources say at one place, merged: equal tokens are one candidate.
#[derive(Clone, Debug, Default)]
pub(crate) struct Menu {
    pub(crate) candidates: Vec<Candidate>,
    /// By source: the grade of its best proposal + 1; 0 if it says nothing here.
    best: [u16; MAX_SOURCES],
}

impl Menu {
    pub(crate) fn clear(&mut self) {
        self.candidates.clear();
        self.best = [0; MAX_SOURCES];
    }

    pub(crate) fn add(&mut self, source: usize, proposals: &Proposals) {
        for &(token, grade) in proposals.items() {
            let grade = u16::from(grade) + 1;
            if self.best[source] == 0 {
                self.best[source] = grade;
            }
            match self.candidates.iter_mut().find(|candidate| candidate.token == token) {
                Some(candidate) => candidate.grades[source] = grade,
                None => {
                    let mut grades = [0; MAX_SOURCES];
                    grades[source] = grade;
                    self.candidates.push(Candidate { token, p: 0.0, grades });
                }
            }
        }
    }

    /// Which sources say something here, as bits.
    fn speaking(&self) -> usize {
        self.best.iter().enumerate().map(|(source, &best)| usize::from(best > 0) << source).sum()
    }
}

/// How fast weights follow the gradient; a set of sources that was seldom seen learns faster.
const RATE: f32 = 0.02;
const EAGER: f32 = 2.0;
/// Observations after which old ones fade.
const MEMORY: f32 = 120.0;
/// How many observations a prior is worth.
const PRIOR: f32 = 12.0;
/// By how much several sources that agree are surer together than on average.
const TOGETHER: f32 = 0.35;

/// Logistic mixing of experts with on-line learned weights, as context-mixing compressors do it (Mahoney, "Adaptive
/// weighing of context models for lossless data compression", 2005).
///
/// Each source's guess of a grade stands for the share of such guesses that came true; a source that speaks but does
/// not name a token speaks against it. The log-odds are added up with weights that belong to the set of sources that
/// speak at the place.
#[derive(Clone, Debug)]
pub(crate) struct Mixer {
    sources: usize,
    named: Vec<Vec<Share>>,
    unnamed: Vec<Vec<Share>>,
    /// By set of speaking sources: one weight for each, and a bias.
    weights: Vec<[f32; MAX_SOURCES + 1]>,
    /// By the same set: how often it was learned from.
    learned: Vec<f32>,
}

impl Mixer {
    pub(crate) fn new(sources: &[Box<dyn Source>]) -> Self {
        let named = sources.iter().map(|source| {
            let prior = |grade: usize| source.prior(grade as u8).clamp(0.001, 0.99);
            (0..source.grades().min(256)).map(|grade| Share::new(prior(grade), PRIOR)).collect()
        });
        let unnamed = sources.iter().map(|source| vec![Share::new(0.015, PRIOR); source.grades().min(256)]);
        let weights = (0..1_usize << sources.len()).map(|set: usize| {
            let speaks = |source: usize| set >> source & 1 == 1;
            let trust: f32 = (0..sources.len()).filter(|&s| speaks(s)).map(|s| sources[s].trust()).sum();
            let all = 1.0 + TOGETHER * (1.0 - 1.0 / set.count_ones().max(1) as f32);
            let mut weights = [0.0; MAX_SOURCES + 1];
            for source in (0..sources.len()).filter(|&s| speaks(s)) {
                weights[source] = all * sources[source].trust() / trust;
            }
            weights
        });
        Self {
            sources: sources.len(),
            named: named.collect(),
            unnamed: unnamed.collect(),
            weights: weights.collect(),
            learned: vec![0.0; 1 << sources.len()],
        }
    }

    fn inputs(&self, menu: &Menu, candidate: &Candidate) -> [f32; MAX_SOURCES] {
        let mut inputs = [0.0; MAX_SOURCES];
        for (source, input) in inputs.iter_mut().enumerate().take(self.sources) {
            *input = match (candidate.grades[source], menu.best[source]) {
                (_, 0) => 0.0,
                (0, best) => self.unnamed[source][usize::from(best) - 1].logit,
                (grade, _) => self.named[source][usize::from(grade) - 1].logit,
            };
        }
        inputs
    }

    /// Gives every candidate of `menu` its probability.
    pub(crate) fn mix(&self, menu: &mut Menu) {
        let weights = &self.weights[menu.speaking()];
        for index in 0..menu.candidates.len() {
            let inputs = self.inputs(menu, &menu.candidates[index]);
            let sum: f32 = inputs.iter().zip(weights).map(|(input, weight)| input * weight).sum();
            menu.candidates[index].p = squash(sum + weights[MAX_SOURCES]);
        }
    }

    /// Learns that `token` came where `menu`, already mixed, stood.
    pub(crate) fn learn(&mut self, menu: &Menu, token: TokenId) {
        let set = menu.speaking();
        self.learned[set] += 1.0;
        let rate = RATE * (1.0 + EAGER / (1.0 + self.learned[set] / 10.0));
        for candidate in &menu.candidates {
            let came_true = if candidate.token == token { 1.0 } else { 0.0 };
            let inputs = self.inputs(menu, candidate);
            let step = rate * (came_true - candidate.p);
            let weights = &mut self.weights[set];
            for (weight, input) in weights.iter_mut().zip(inputs) {
                *weight += step * input;
            }
            weights[MAX_SOURCES] += step;
            for source in 0..self.sources {
                let share = match (candidate.grades[source], menu.best[source]) {
                    (_, 0) => continue,
                    (0, best) => &mut self.unnamed[source][usize::from(best) - 1],
                    (grade, _) => &mut self.named[source][usize::from(grade) - 1],
                };
                share.learn(came_true);
            }
        }
    }
}
