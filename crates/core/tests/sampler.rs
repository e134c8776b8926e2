//! The sampler against exact probabilities and against a naive implementation of its settings.

use proptest::prelude::*;
use upcycle_core::{LogitBias, Sampler, Sampling, SamplingConfig, TokenId, TokenLogprobs};
use upcycle_testkit::NaiveVerifier;

const SAMPLES: usize = 100_000;

fn probabilities(logits: &[f32], temperature: f64) -> Vec<f64> {
    let weights: Vec<f64> = logits.iter().map(|&logit| (f64::from(logit) / temperature).exp()).collect();
    let sum: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / sum).collect()
}

/// Pearson's chi-square and its degrees of freedom. Cells with an expectation below ten are merged.
fn chi_square(counts: &[usize], expected: &[f64]) -> (f64, f64) {
    let mut cells: Vec<(f64, f64)> = Vec::new();
    let mut rest = (0.0, 0.0);
    for (&count, &expected) in counts.iter().zip(expected) {
        if expected < 10.0 {
            rest = (rest.0 + count as f64, rest.1 + expected);
        } else {
            cells.push((count as f64, expected));
        }
    }
    if rest.1 >= 10.0 {
        cells.push(rest);
    }
    (
        cells.iter().map(|(count, expected)| (count - expected).powi(2) / expected).sum(),
        cells.len() as f64 - 1.0,
    )
}

fn fits(counts: &[usize], expected: &[f64]) -> bool {
    let (statistic, freedom) = chi_square(counts, expected);
    // Four standard deviations of chi-square around its mean. The seeds are fixed, so the result is always the same.
    freedom >= 3.0 && (statistic - freedom).abs() < 4.0 * (2.0 * freedom).sqrt()
}

fn sampler(config: SamplingConfig) -> Sampler {
    Sampler::new(Sampling::new(config).unwrap())
}

#[test]
fn samples_follow_the_softmax_over_positions_seeds_and_streams() {
    let base = SamplingConfig { seed: 5, ..SamplingConfig::default() };
    for (temperature, model) in [(1.0_f32, 1), (0.6, 2), (2.5, 3)] {
        let logits = NaiveVerifier::new(40, model).logits_after(&[1, 2, 3]);
        let p = probabilities(&logits, f64::from(temperature));
        let expected: Vec<f64> = p.iter().map(|p| p * SAMPLES as f64).collect();
        // Positions, seeds and sample_indices each give new noise.
        for along in 0..3 {
            let mut counts = vec![0; logits.len()];
            for index in 0..SAMPLES {
                let mut config = SamplingConfig { temperature, ..base };
                let mut position = 7;
                match along {
                    0 => position = index,
                    1 => config.seed = index as u64,
                    _ => config.sample_index = index as u32,
                }
                counts[sampler(config).sample(&logits, position, &[]).token as usize] += 1;
            }
            assert!(fits(&counts, &expected), "{temperature}, {along}: {:?}", chi_square(&counts, &expected));
        }
    }
}

#[test]
fn neighbouring_positions_are_independent() {
    let logits = NaiveVerifier::new(5, 4).logits_after(&[1]);
    let p = probabilities(&logits, 1.0);
    let config = SamplingConfig { temperature: 1.0, seed: 11, ..SamplingConfig::default() };
    let mut sampler = sampler(config);
    let samples: Vec<usize> =
        (0..2 * SAMPLES).map(|at| sampler.sample(&logits, at, &[]).token as usize).collect();
    let mut counts = vec![0; 25];
    for pair in samples.chunks_exact(2) {
        counts[pair[0] * 5 + pair[1]] += 1;
    }
    let expected: Vec<f64> = (0..25).map(|pair| p[pair / 5] * p[pair % 5] * SAMPLES as f64).collect();
    assert!(fits(&counts, &expected), "{:?}", chi_square(&counts, &expected));
}

#[test]
fn a_wrong_distribution_is_detected() {
    let logits = NaiveVerifier::new(40, 1).logits_after(&[1, 2, 3]);
    let p = probabilities(&logits, 1.05);
    let expected: Vec<f64> = p.iter().map(|p| p * SAMPLES as f64).collect();
    let mut sampler = sampler(SamplingConfig { temperature: 1.0, seed: 5, ..SamplingConfig::default() });
    let mut counts = vec![0; logits.len()];
    for position in 0..SAMPLES {
        counts[sampler.sample(&logits, position, &[]).token as usize] += 1;
    }
    assert!(!fits(&counts, &expected), "a temperature five percent off");
}

/// The logits after the repetition penalty, from its definition.
fn penalized(logits: &[f32], history: &[TokenId], penalty: f32) -> Vec<f32> {
    let recent = &history[history.len().saturating_sub(64)..];
    let change = |(token, &logit): (usize, &f32)| match recent.contains(&(token as TokenId)) {
        true if logit > 0.0 => logit / penalty,
        true => logit * penalty,
        false => logit,
    };
    logits.iter().enumerate().map(change).collect()
}

/// The tokens that top-k, top-p and min-p keep, from their definitions.
fn kept(logits: &[f32], config: SamplingConfig) -> Vec<TokenId> {
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)));
    if config.top_k > 0 {
        order.truncate(config.top_k);
    }
    let highest = f64::from(logits[order[0]]);
    let weight = |token: usize| ((f64::from(logits[token]) - highest) / f64::from(config.temperature)).exp();
    let all: f64 = order.iter().map(|&token| weight(token)).sum();
    let mut sum = 0.0;
    let mut enough = order.len();
    for (index, &token) in order.iter().enumerate() {
        sum += weight(token);
        if config.top_p < 1.0 && sum >= f64::from(config.top_p) * all {
            enough = index + 1;
            break;
        }
    }
    order.truncate(enough);
    order.retain(|&token| weight(token) >= f64::from(config.min_p));
    order.into_iter().map(|token| token as TokenId).collect()
}

proptest! {
    #[test]
    fn a_sample_has_the_best_score_of_the_kept_tokens(
        logits in prop::collection::vec(-8.0_f32..8.0, 1..400),
        history in prop::collection::vec(0_u32..400, 0..100),
        (temperature, top_k) in (0.1_f32..3.0, prop_oneof![Just(0_usize), 1_usize..500]),
        (top_p, min_p) in (prop_oneof![Just(1.0_f32), 0.01_f32..1.0], prop_oneof![Just(0.0_f32), 0.0_f32..1.0]),
        repeat_penalty in prop_oneof![Just(1.0_f32), 0.5_f32..2.0],
        (seed, sample_index, position) in any::<(u64, u32, u32)>(),
    ) {
        let config = SamplingConfig { temperature, top_k, top_p, min_p, repeat_penalty, seed, sample_index };
        let position = position as usize;
        let sampled = sampler(config).sample(&logits, position, &history);
        // The same noise over the kept tokens only: all others get a very low logit.
        let logits = penalized(&logits, &history, repeat_penalty);
        let kept = kept(&logits, config);
        let sunk: Vec<f32> = (0..).zip(&logits).map(|(token, &logit)| {
            if kept.contains(&token) { logit } else { -1e6 }
        }).collect();
        let plain = SamplingConfig { temperature, seed, sample_index, ..SamplingConfig::default() };
        let expected = sampler(plain).sample(&sunk, position, &[]);
        prop_assert_eq!(sampled.token, expected.token);
        prop_assert!(kept.contains(&sampled.token));
        if kept.len() == 1 {
            prop_assert_eq!(sampled.gap, f64::INFINITY);
        } else {
            prop_assert!((sampled.gap - expected.gap).abs() < 1e-9, "{} {}", sampled.gap, expected.gap);
        }
    }

    #[test]
    fn greedy_is_the_highest_after_the_penalty_and_the_lower_id_of_equal_ones(
        logits in prop::collection::vec((-9_i8..9).prop_map(f32::from), 1..200),
        history in prop::collection::vec(0_u32..200, 0..100),
        repeat_penalty in prop_oneof![Just(1.0_f32), Just(2.0), Just(0.5)],
    ) {
        let config = SamplingConfig { repeat_penalty, ..SamplingConfig::default() };
        let sampled = sampler(config).sample(&logits, 3, &history);
        let logits = penalized(&logits, &history, repeat_penalty);
        let mut order: Vec<usize> = (0..logits.len()).collect();
        order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)));
        prop_assert_eq!(sampled.token as usize, order[0]);
        let gap = order.get(1).map_or(f64::INFINITY, |&second| f64::from(logits[order[0]] - logits[second]));
        prop_assert_eq!(sampled.gap, gap);
    }

    #[test]
    fn a_sample_depends_on_its_position_and_not_on_earlier_samples(
        positions in prop::collection::vec(0_usize..50, 1..20),
        seed: u64,
    ) {
        let logits = NaiveVerifier::new(100, 1).logits_after(&[1]);
        let config = SamplingConfig { temperature: 1.0, top_p: 0.9, seed, ..SamplingConfig::default() };
        let mut used = sampler(config);
        for position in positions {
            let fresh = sampler(config).sample(&logits, position, &[]);
            prop_assert_eq!(used.sample(&logits, position, &[]), fresh);
        }
    }
}

#[test]
fn settings_out_of_range_are_refused_by_name() {
    let refused = |config| Sampling::new(config).unwrap_err().name;
    let ok = SamplingConfig::default();
    for bad in [-1.0, 1e-4, 101.0, f32::NAN, f32::INFINITY] {
        assert_eq!(refused(SamplingConfig { temperature: bad, ..ok }), "temperature");
    }
    for bad in [0.0, -0.1, 1.1, f32::NAN] {
        assert_eq!(refused(SamplingConfig { top_p: bad, ..ok }), "top_p");
    }
    for bad in [-0.1, 1.1, f32::NAN] {
        assert_eq!(refused(SamplingConfig { min_p: bad, ..ok }), "min_p");
    }
    for bad in [0.0, -1.0, 11.0, f32::NAN] {
        assert_eq!(refused(SamplingConfig { repeat_penalty: bad, ..ok }), "repeat_penalty");
    }
    for bad in [-100.5, 101.0, f32::NAN, f32::INFINITY] {
        assert_eq!(LogitBias::new([(1, 0.5), (2, bad)]).unwrap_err().name, "logit_bias");
    }
}

#[test]
fn log_probabilities_are_of_a_distribution() {
    let logits = NaiveVerifier::new(40, 1).logits_after(&[1, 2, 3]);
    let all = TokenLogprobs::new(&logits, 7, 100);
    let expected = probabilities(&logits, 1.0);
    assert_eq!(all.top.len(), 40);
    for (token, logprob) in &all.top {
        assert!((f64::from(logprob.exp()) - expected[*token as usize]).abs() < 1e-6);
    }
    assert!(all.top.contains(&(7, all.logprob)) && all.top.is_sorted_by(|a, b| a.1 >= b.1));
    assert_eq!(TokenLogprobs::new(&logits, 40, 0).logprob, f32::NEG_INFINITY, "outside the row");
}
