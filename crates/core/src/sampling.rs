//! Reproducible choice of the next token: greedy, or sampled.
//!
//! Sampling uses the Gumbel-max trick. The token with the highest `logit / temperature + g`, where `g` is standard Gumbel
//! noise, is a sample from the softmax. The noise is a pure function of seed, sample index, absolute position and token. So
//! sampling is an argmax. Where logits are equal, speculative decoding gives the text of plain decoding with the same seed,
//! token for token.
//!
//! Gumbel 1954; Maddison, Tarlow and Minka, "A* sampling", NeurIPS 2014.

use std::cmp::Ordering;

use crate::gumbel::{PositionNoise, gumbel, gumbel_bound};
use crate::logit_bias::LogitBias;
pub use crate::sampling_error::SamplingError;
use crate::token::TokenId;

/// The repetition penalty applies to the last tokens of prompt and output, up to this many (llama.cpp's default).
pub const REPEAT_WINDOW: usize = 64;

/// Sampling settings, unchecked. [`Sampling`] describes each.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SamplingConfig {
    /// 0 is greedy.
    pub temperature: f32,
    /// 0 is off.
    pub top_k: usize,
    /// 1 is off.
    pub top_p: f32,
    /// 0 is off.
    pub min_p: f32,
    /// 1 is off.
    pub repeat_penalty: f32,
    /// Seed of the noise.
    pub seed: u64,
    /// Separates parallel samples that share a seed.
    pub sample_index: u32,
}

impl Default for SamplingConfig {
    /// Greedy decoding.
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repeat_penalty: 1.0,
            seed: 0,
            sample_index: 0,
        }
    }
}

/// Sampling settings, checked.
///
/// They apply in this order, after a request's [`LogitBias`]:
///
/// 1. The repetition penalty divides positive logits and multiplies negative logits of the last [`REPEAT_WINDOW`] tokens
///    (Keskar et al. 2019).
/// 2. The temperature divides all logits.
/// 3. Top-k keeps the k highest.
/// 4. Top-p keeps the smallest set of the most probable of these whose probabilities sum to at least p.
/// 5. Min-p keeps those whose probability is at least this share of the highest.
/// 6. One of the remaining tokens is sampled.
///
/// With temperature 0, the highest logit after the penalty is chosen, and among equal ones the lower id.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling(SamplingConfig);

impl Sampling {
    /// Greedy decoding: the highest logit.
    #[must_use]
    pub fn greedy() -> Self {
        Self(SamplingConfig::default())
    }

    /// Checks the ranges.
    ///
    /// # Errors
    /// [`SamplingError`] names the setting, its value and its range.
    pub fn new(config: SamplingConfig) -> Result<Self, SamplingError> {
        let SamplingConfig { temperature, top_p, min_p, repeat_penalty, .. } = config;
        let check = |name, found: f32, valid: bool, expected| {
            if valid { Ok(()) } else { Err(SamplingError { name, found, expected }) }
        };
        let in_range = temperature == 0.0 || (1e-3..=100.0).contains(&temperature);
        check("temperature", temperature, in_range, "0 (greedy), or 0.001 to 100")?;
        check("top_p", top_p, top_p > 0.0 && top_p <= 1.0, "above 0, at most 1 (off)")?;
        check("min_p", min_p, (0.0..=1.0).contains(&min_p), "0 (off) to 1")?;
        let positive = (0.1..=10.0).contains(&repeat_penalty);
        check("repeat_penalty", repeat_penalty, positive, "0.1 to 10, with 1 as off")?;
        Ok(Self(config))
    }

    /// The settings.
    #[must_use]
    pub fn config(&self) -> &SamplingConfig {
        &self.0
    }

    /// The same settings with another sample index.
    #[must_use]
    pub fn with_sample_index(mut self, index: u32) -> Self {
        self.0.sample_index = index;
        self
    }

    /// Whether the token is always the first of a row's candidates, so that no full row of logits is needed.
    #[must_use]
    pub fn needs_only_best(&self) -> bool {
        self.0.temperature == 0.0 && self.0.repeat_penalty == 1.0
    }
}

/// A sampled token and its lead over the second best.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SampledToken {
    /// The token.
    pub token: TokenId,
    /// How far its perturbed logit lies above the second best. A perturbed logit is `logit / temperature + noise`, or the
    /// logit itself if greedy. Infinite if only one token remained.
    pub gap: f64,
}

/// Samples tokens from full rows of logits; keeps its working memory from call to call.
#[derive(Clone, Debug)]
pub struct Sampler {
    sampling: Sampling,
    bias: LogitBias,
    kept: Vec<(f32, TokenId)>,
}

impl Sampler {
    /// A sampler for these settings.
    #[must_use]
    pub fn new(sampling: Sampling) -> Self {
        Self { sampling, bias: LogitBias::default(), kept: Vec::new() }
    }

    /// Adds `bias` to the logits before anything else. Tokens that a row lacks are ignored.
    #[must_use]
    pub fn with_bias(mut self, bias: LogitBias) -> Self {
        self.bias = bias;
        self
    }

    /// The settings.
    #[must_use]
    pub fn sampling(&self) -> &Sampling {
        &self.sampling
    }

    /// Samples a token from `logits`, `[vocab]`, all finite. `position` is the number of tokens before it. `history` has these
    /// tokens, or at least the last [`REPEAT_WINDOW`] of them. O(vocab), plus a sort of the tokens that top-p keeps.
    ///
    /// Empty `logits` give token 0 with a gap of 0.
    #[must_use]
    pub fn sample(&mut self, logits: &[f32], position: usize, history: &[TokenId]) -> SampledToken {
        let SamplingConfig { temperature, seed, sample_index, .. } = self.sampling.0;
        self.kept.clear();
        self.kept.extend(logits.iter().copied().zip(0..));
        for (token, bias) in self.bias.iter() {
            if let Some((logit, _)) = self.kept.get_mut(token as usize) {
                *logit += bias;
            }
        }
        self.penalize(history);
        let mut best = TopTwo::default();
        if temperature == 0.0 {
            for &(logit, token) in &self.kept {
                best.push(f64::from(logit), token);
            }
            return best.sampled();
        }
        self.filter();
        let mut noise = PositionNoise::new(seed, sample_index, position as u64);
        for &(logit, token) in &self.kept {
            let scaled = f64::from(logit) / f64::from(temperature);
            let bits = noise.bits(token);
            // For most tokens the bound shows, without a logarithm, that they cannot even be second best.
            if scaled + gumbel_bound(bits) >= best.second {
                best.push(scaled + gumbel(bits), token);
            }
        }
        best.sampled()
    }

    fn penalize(&mut self, history: &[TokenId]) {
        let penalty = self.sampling.0.repeat_penalty;
        if penalty == 1.0 {
            return;
        }
        let window = &history[history.len().saturating_sub(REPEAT_WINDOW)..];
        for (index, &token) in window.iter().enumerate() {
            // Each token once, however often it occurs.
            if window[..index].contains(&token) {
                continue;
            }
            if let Some((logit, _)) = self.kept.get_mut(token as usize) {
                *logit = if *logit > 0.0 { *logit / penalty } else { *logit * penalty };
            }
        }
    }

    /// Applies top-k, top-p and min-p to `kept`. Leaves it in order of ids if all are off.
    fn filter(&mut self) {
        let SamplingConfig { temperature, top_k, top_p, min_p, .. } = self.sampling.0;
        let temperature = f64::from(temperature);
        if top_k > 0 && top_k < self.kept.len() {
            self.kept.select_nth_unstable_by(top_k - 1, descending);
            self.kept.truncate(top_k);
        }
        let highest = self.kept.iter().map(|&(logit, _)| logit).fold(f32::NEG_INFINITY, f32::max);
        let weight = |logit: f32| ((f64::from(logit) - f64::from(highest)) / temperature).exp();
        if top_p < 1.0 {
            let all: f64 = self.kept.iter().map(|&(logit, _)| weight(logit)).sum();
            let enough = top_p_len(&mut self.kept, f64::from(top_p) * all, weight);
            self.kept.truncate(enough);
        }
        if min_p > 0.0 {
            self.kept.retain(|&(logit, _)| weight(logit) >= f64::from(min_p));
        }
    }
}

/// The token with the highest perturbed logit, and the second highest perturbed logit.
#[derive(Clone, Copy, Debug)]
struct TopTwo {
    token: TokenId,
    perturbed: f64,
    second: f64,
}

impl Default for TopTwo {
    fn default() -> Self {
        Self { token: 0, perturbed: f64::NEG_INFINITY, second: f64::NEG_INFINITY }
    }
}

impl TopTwo {
    fn push(&mut self, perturbed: f64, token: TokenId) {
        if perturbed > self.perturbed || (perturbed == self.perturbed && token < self.token) {
            *self = Self { token, perturbed, second: self.perturbed };
        } else {
            self.second = self.second.max(perturbed);
        }
    }

    fn sampled(self) -> SampledToken {
        let gap = if self.perturbed == f64::NEG_INFINITY { 0.0 } else { self.perturbed - self.second };
        SampledToken { token: self.token, gap }
    }
}

/// The length of the shortest prefix of the sorted `kept` whose weights sum to `mass`. Sorts block by block, only as far as
/// needed.
fn top_p_len(kept: &mut [(f32, TokenId)], mass: f64, weight: impl Fn(f32) -> f64) -> usize {
    let (mut sum, mut done, mut block) = (0.0, 0, 64);
    while done < kept.len() {
        let rest = &mut kept[done..];
        let size = block.min(rest.len());
        if size < rest.len() {
            rest.select_nth_unstable_by(size - 1, descending);
        }
        rest[..size].sort_unstable_by(descending);
        for (index, &(logit, _)) in rest[..size].iter().enumerate() {
            sum += weight(logit);
            if sum >= mass {
                return done + index + 1;
            }
        }
        done += size;
        block *= 4;
    }
    kept.len()
}

/// By descending logit, equal ones by ascending id.
fn descending(a: &(f32, TokenId), b: &(f32, TokenId)) -> Ordering {
    b.0.total_cmp(&a.0).then(a.1.cmp(&b.1))
}
