use proptest::prelude::*;

use super::*;
use crate::results::{ArmKind, TimeSplit};

fn arm(name: &str, baseline: usize, nodes: Option<usize>) -> Arm {
    Arm {
        name: name.to_owned(),
        kind: if nodes.is_some() { ArmKind::Draft } else { ArmKind::Plain },
        baseline,
        setup: "s".to_owned(),
        engine: "e".to_owned(),
        engine_version: None,
        model: "m".to_owned(),
        model_sha256: String::new(),
        drafter: "d".to_owned(),
        nodes,
        threads: None,
        config: String::new(),
        state: ArmState::Measured,
    }
}

/// An answer of 100 tokens in `steps` steps of `nodes` nodes. A pass takes `forward` seconds, everything else a tenth of
/// it.
fn record(arm: usize, question: &str, round: usize, steps: usize, nodes: usize, forward: f64) -> Record {
    let time = TimeSplit {
        forward: forward * steps as f64,
        observe: forward * steps as f64 / 10.0,
        ..Default::default()
    };
    Record {
        arm,
        question: question.to_owned(),
        group: if question.starts_with('a') { "a" } else { "b" }.to_owned(),
        round,
        prompt_tokens: 50,
        tokens: 101,
        digest: String::new(),
        prefill_seconds: 0.5,
        decode_tokens: 100,
        decode_seconds: time.forward + time.observe,
        steps: Some(Steps {
            count: steps,
            emitted: 100,
            drafted: nodes * steps,
            accepted: 100 - steps,
            accepted_by_depth: vec![(100 - steps) as u64],
            time,
            ..Steps::default()
        }),
        peak_memory: Some(1000 + round as u64),
        equality: Equality::Exact,
    }
}

#[test]
fn speedups_are_over_the_arms_own_baseline_by_group_and_overall() {
    let arms = [arm("plain", 0, None), arm("fast", 0, Some(4))];
    let mut records = Vec::new();
    for round in 0..3 {
        for question in ["a1", "b1", "a2"] {
            records.push(record(0, question, round, 100, 0, 0.01));
            // Twice as fast on a, as fast on b.
            let steps = if question == "b1" { 100 } else { 50 };
            records.push(record(1, question, round, steps, 4, 0.01));
        }
    }
    let groups = ["a".to_owned(), "b".to_owned()];
    let summaries = summarize(&arms, &groups, &records, &[]);
    assert_eq!(summaries.len(), 6);
    let speedup = |arm: usize, group: Option<&str>| {
        let found = summaries.iter().find(|summary| summary.arm == arm && summary.group.as_deref() == group);
        found.unwrap().speedup.map(|speedup| speedup.value)
    };
    assert_eq!(speedup(0, None), None);
    assert!((speedup(1, Some("a")).unwrap() - 2.0).abs() < 1e-9);
    assert!((speedup(1, Some("b")).unwrap() - 1.0).abs() < 1e-9);
    assert!((speedup(1, None).unwrap() - 1.5).abs() < 1e-9, "300 tokens in 200 steps");
    let overall = &summaries[3];
    assert_eq!((overall.arm, overall.prompts, overall.peak_memory), (1, 3, Some(1002)));
    assert_eq!(overall.equality.exact, 3);
    assert!((overall.tokens_per_step.unwrap() - 1.5).abs() < 1e-9);
    assert!((overall.drafting_share.unwrap() - 1.0 / 11.0).abs() < 1e-9);
}

#[test]
fn a_prompt_counts_once_with_its_worst_verdict() {
    let arms = [arm("plain", 0, None), arm("fast", 0, Some(4))];
    let mut records: Vec<Record> = (0..3).map(|round| record(1, "a1", round, 50, 4, 0.01)).collect();
    records[1].equality = Equality::WithinMargin { at: 3, gap: 0.1, change: 0.2, cap: 0.5 };
    let equality = |records: &[Record]| summarize(&arms, &[], records, &[])[0].equality;
    assert_eq!(equality(&records), EqualityCount { within_margin: 1, ..EqualityCount::default() });
    records[2].equality = Equality::Wrong { at: 3, reason: String::new() };
    assert_eq!(equality(&records), EqualityCount { wrong: 1, ..EqualityCount::default() });
}

#[test]
fn an_arm_without_its_baseline_has_no_ratio() {
    let arms = [arm("plain", 0, None), arm("fast", 0, Some(4))];
    let summaries = summarize(&arms, &[], &[record(1, "a1", 0, 50, 4, 0.01)], &[]);
    assert_eq!((summaries.len(), summaries[0].speedup), (1, None));
}

proptest! {
    #[test]
    fn the_factors_of_a_prediction_multiply_to_the_measurement(
        steps in 20_usize..100,
        nodes in 1_usize..8,
        filled in 0_usize..8,
        forward in 0.005_f64..0.05,
        slope in 0.0_f64..0.01,
        slow in prop::collection::vec((0.5_f64..2.0, 0.5_f64..2.0), 1..5),
    ) {
        let arms = [arm("plain", 0, None), arm("fast", 0, Some(nodes))];
        let costs = [Cost {
            setup: "s".into(),
            context: 100,
            rows: vec![1, 2, 9],
            seconds: vec![0.01, 0.01 + slope, 0.01 + 8.0 * slope],
        }];
        let filled = filled.min(nodes);
        let mut records = Vec::new();
        for (round, (plain, drafted)) in slow.into_iter().enumerate() {
            records.push(record(0, "a1", round, 100, 0, 0.01 * plain));
            records.push(record(1, "a1", round, steps, filled, forward * drafted));
        }
        let summaries = summarize(&arms, &[], &records, &costs);
        let prediction = summaries[1].prediction.as_ref().unwrap();
        let product = prediction.quotient * prediction.trees * prediction.passes * prediction.overhead;
        prop_assert!((product / prediction.measured - 1.0).abs() < 1e-9, "{prediction:?}");
        prop_assert!((prediction.measured / summaries[1].speedup.unwrap().value - 1.0).abs() < 1e-12);
        let gap = (prediction.measured / prediction.quotient - 1.0).abs();
        prop_assert_eq!(prediction.explanation.is_some(), gap > 0.05);
    }
}
