//! The verdicts of the benchmark on verifiers with known faults: exact, within the margin, or wrong.
#![cfg(test)]

mod page;
mod verifiers;

use std::fs;
use std::path::Path;

use upcycle::{ConfigBuilder, DEFAULT_K, LoadedModel, NoOptions, Progress, Registry};
use upcycle_bench::plan::{RunPlan, SetupPlan};
use upcycle_bench::prompts::PromptSet;
use upcycle_bench::results::{ArmState, Equality, InitialTables, Results};
use upcycle_bench::runner::{FinishedRun, RunObserver, Runner};
use upcycle_core::{AdjacencyMatrix, TokenId, Verifier};
use upcycle_testkit::broken;

use verifiers::Known;

/// The largest change of a logit, up or down.
const JITTER: f32 = 0.2;

/// Interrupts before the n-th answer, not counting warm-up answers.
struct Stops {
    answers: usize,
    messages: Vec<String>,
}

impl Stops {
    fn never() -> Self {
        Self::before(usize::MAX)
    }

    fn before(answer: usize) -> Self {
        Self { answers: answer, messages: Vec::new() }
    }
}

impl RunObserver for Stops {
    fn interrupted(&self) -> bool {
        self.answers == 0
    }
    fn loading(&mut self, _: &str, _: Progress) {}
    fn measuring(&mut self, _: usize, total: usize, _: &str) {
        self.answers = self.answers.saturating_sub(usize::from(total > 0));
    }
    fn notify(&mut self, message: &str) {
        self.messages.push(message.to_owned());
    }
}

/// The built-in backends, and some with an artificial model behind the real model's tokenizer.
fn registry() -> Registry {
    let mut registry = Registry::builtin();
    let mut add = |name: &str, change: fn(Known) -> Known| {
        registry.register_backend(name, "known", &["cpu"], move |_: &NoOptions, model, _| {
            Ok(Box::new(change(Known::new(&model))))
        });
    };
    add("naive", |known| known);
    add("mask-ignored", |known| known.with(|naive| naive.with_attention(broken::mask_ignored)));
    add("jittery", |known| known.jittery(JITTER, 2.5 * JITTER));
    add("silent-jitter", |known| known.jittery(JITTER, 0.0));
    add("failing", |known| known.failing_after(60));
    registry
}

pub(crate) fn plan(backends: &[&str], arms: &str) -> RunPlan {
    let model = upcycle_testkit::real_model().display().to_string();
    let setup = |backend: &&str| SetupPlan {
        name: (*backend).to_owned(),
        file: None,
        flags: vec![
            ("--model".to_owned(), "model.path".to_owned(), model.clone()),
            ("--backend".to_owned(), "backend.name".to_owned(), (*backend).to_owned()),
        ],
        set: Vec::new(),
    };
    RunPlan {
        setups: backends.iter().map(setup).collect(),
        arms: arms.split(',').map(str::to_owned).collect(),
        llama_server: None,
        peer_models: Vec::new(),
        prompts: None,
        per_group: None,
        max_tokens: 48,
        rounds: 2,
        temperature: 0.0,
        seed: 0,
        tables: InitialTables::Empty,
        max_wait_seconds: 0,
    }
}

fn prompts() -> PromptSet {
    let line = |(index, text): (usize, &str)| {
        let group = if index == 2 { "b" } else { "a" };
        format!("{{\"question_id\": {index}, \"group\": \"{group}\", \"turns\": [\"Count to {text}.\"]}}\n")
    };
    let lines: String = ["one", "two", "three"].into_iter().enumerate().map(line).collect();
    PromptSet::parse("test", lines.as_bytes()).unwrap()
}

fn run(plan: RunPlan, folder: &Path, resume: bool, observer: &mut Stops) -> FinishedRun {
    let runner = Runner::prepare(plan, &prompts(), folder, resume, &registry(), observer).unwrap();
    runner.run(observer).unwrap()
}

pub(crate) fn results(plan: RunPlan) -> Results {
    let folder = tempfile::tempdir().unwrap();
    run(plan, folder.path(), false, &mut Stops::never()).results
}

fn verdicts(results: &Results, arm: &str) -> Vec<Equality> {
    let index = results.arms.iter().position(|found| found.name == arm);
    let index = index.unwrap_or_else(|| panic!("no {arm} among {:?}", results.arms));
    results
        .records
        .iter()
        .filter(|record| record.arm == index)
        .map(|record| record.equality.clone())
        .collect()
}

#[test]
fn a_backend_that_keeps_the_laws_is_exact_with_any_drafter_greedy_and_sampled() {
    for temperature in [0.0, 0.7] {
        for tables in [InitialTables::Empty, InitialTables::Carried] {
            let plan = RunPlan {
                temperature,
                tables,
                ..plan(&["naive"], "plain,recycling:8,mixed:6,prompt-lookup:4")
            };
            let results = results(plan);
            assert!(results.complete);
            assert_eq!(results.settings.rounds_done, 2);
            assert_eq!(results.records.len(), 4 * 3 * 2);
            assert!(
                results.records.iter().all(|record| record.equality == Equality::Exact),
                "{:?}",
                results.records
            );
            // Overall and two groups for each arm.
            assert_eq!(results.summaries.len(), 4 * 3);
            for summary in &results.summaries {
                assert_eq!(summary.speedup.is_some(), results.arms[summary.arm].name != "naive plain");
            }
        }
    }
}

#[test]
fn a_backend_that_ignores_the_mask_is_wrong_and_fails_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let finished = run(
        plan(&["naive", "mask-ignored"], "plain,recycling:16"),
        folder.path(),
        false,
        &mut Stops::never(),
    );
    let results = &finished.results;
    assert!(finished.wrong() > 0);
    let wrong = verdicts(results, "mask-ignored recycling:16");
    assert!(wrong.iter().any(|verdict| matches!(verdict, Equality::Wrong { .. })), "{wrong:?}");
    assert!(verdicts(results, "naive recycling:16").iter().all(|verdict| *verdict == Equality::Exact));
}

#[test]
fn rounding_is_within_the_margin_only_if_the_backend_states_it() {
    let results = results(plan(&["jittery", "silent-jitter"], "plain,recycling:16"));
    let stated = verdicts(&results, "jittery recycling:16");
    let silent = verdicts(&results, "silent-jitter recycling:16");
    assert!(stated.iter().any(|verdict| matches!(verdict, Equality::WithinMargin { .. })), "{stated:?}");
    assert!(!stated.iter().any(|verdict| matches!(verdict, Equality::Wrong { .. })), "{stated:?}");
    for (stated, silent) in stated.iter().zip(&silent) {
        let same = matches!(
            (stated, silent),
            (Equality::Exact, Equality::Exact) | (Equality::WithinMargin { .. }, Equality::Wrong { .. })
        );
        assert!(same, "the two differ in what they state alone: {stated:?}, {silent:?}");
    }
}

#[test]
fn a_failing_arm_is_marked_and_the_others_continue() {
    let mut observer = Stops::never();
    let folder = tempfile::tempdir().unwrap();
    let results =
        run(plan(&["failing", "naive"], "plain,recycling:2"), folder.path(), false, &mut observer).results;
    let state = |name: &str| results.arms.iter().find(|arm| arm.name == name).unwrap().state.clone();
    match state("failing plain") {
        ArmState::Failed { reason } => assert!(reason.contains("out of luck"), "{reason}"),
        state => panic!("{state:?}"),
    }
    assert_eq!(state("naive recycling:2"), ArmState::Measured);
    assert_eq!(verdicts(&results, "naive recycling:2").len(), 6, "every prompt in every round");
    assert!(observer.messages.iter().any(|message| message.contains("failing")), "{:?}", observer.messages);
    assert!(results.warnings.iter().any(|warning| warning.contains("failing plain failed")));
}

#[test]
fn a_stopped_run_resumes_and_keeps_its_measurements() {
    for tables in [InitialTables::Empty, InitialTables::Carried] {
        let plan = RunPlan { tables, ..plan(&["naive"], "plain,recycling:4") };
        let folder = tempfile::tempdir().unwrap();
        // During the second prompt of the second round.
        let stopped = run(plan.clone(), folder.path(), false, &mut Stops::before(10)).results;
        assert!(!stopped.complete);
        assert_eq!((stopped.records.len(), stopped.settings.rounds_done), (8, 1));
        assert!(stopped.warnings.iter().any(|warning| warning.contains("stopped before its end")));

        let whole = run(plan, folder.path(), true, &mut Stops::never()).results;
        assert!(whole.complete);
        assert_eq!((whole.records.len(), &whole.started), (12, &stopped.started));
        assert!(whole.warnings.iter().any(|warning| warning.contains("resumed")));
        // With empty tables nothing is measured twice; with carried tables the round starts again.
        let kept = stopped.records.iter().filter(|record| whole.records.contains(record)).count();
        assert_eq!(kept, if tables == InitialTables::Empty { 8 } else { 6 });
    }
}

#[test]
fn another_run_is_not_resumed() {
    let folder = tempfile::tempdir().unwrap();
    run(plan(&["naive"], "plain,recycling:4"), folder.path(), false, &mut Stops::never());
    let other = plan(&["naive"], "plain,recycling:5");
    let error = Runner::prepare(other, &prompts(), folder.path(), true, &registry(), &mut Stops::never())
        .unwrap_err();
    assert!(
        error.to_string().contains("recycling:4") && error.to_string().contains("cannot be compared"),
        "{error}"
    );
}

#[test]
fn an_arm_without_a_snapshot_cannot_start_from_one() {
    let folder = tempfile::tempdir().unwrap();
    let plan = RunPlan { tables: InitialTables::Snapshot, ..plan(&["naive"], "plain,mixed:2") };
    let error = Runner::prepare(plan, &prompts(), folder.path(), false, &registry(), &mut Stops::never())
        .unwrap_err();
    assert!(error.to_string().contains("needs drafter.snapshot for arm naive mixed:2"), "{error}");
}

#[test]
fn carried_tables_begin_with_the_configured_snapshot() {
    let folder = tempfile::tempdir().unwrap();
    let snapshot = folder.path().join("matrix");
    let plain = || RunPlan { tables: InitialTables::Carried, ..plan(&["naive"], "plain,recycling:4") };
    let mut started = plain();
    let registry = registry();
    let mut builder = ConfigBuilder::new(&registry);
    for (flag, key, value) in &started.setups[0].flags {
        builder.flag(flag, key, value).unwrap();
    }
    let config = builder.build().unwrap();
    let model = LoadedModel::load(&config, &registry, &mut |_| {}).unwrap();
    let vocab = model.verifier.limits().vocab;
    let mut matrix = AdjacencyMatrix::new(vocab, DEFAULT_K).unwrap();
    for token in 0..vocab as TokenId {
        matrix.update(token, &[(token + 1) % vocab as TokenId]);
    }
    matrix.save(&snapshot, &model.text.tokenizer.fingerprint()).unwrap();
    let bytes = fs::read(&snapshot).unwrap();
    started.setups[0].set.push(format!("drafter.snapshot={}", snapshot.display()));

    // Without it, the first step of a round has an empty matrix and drafts nothing.
    let first = |results: &Results, round: usize| {
        let records = results.records.iter();
        let mut drafted = records.filter(|r| r.arm == 1 && r.round == round && r.question == "0");
        drafted.next().unwrap().steps.as_ref().unwrap().drafted
    };
    let (empty, started) = (results(plain()), results(started));
    for round in 0..2 {
        assert!(first(&started, round) > first(&empty, round), "round {round}");
    }
    assert_eq!(bytes, fs::read(&snapshot).unwrap(), "a benchmark leaves it as it is");
}
