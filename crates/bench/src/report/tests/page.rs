//! What the page says of the fixtures.

use crate::report::html;
use crate::results::{ArmState, Equality, Estimate};

use super::{HOSTILE, classed, elements, fixture, parsed, section, text};

fn page_of(results: &crate::results::Results) -> String {
    html(results).unwrap()
}

#[test]
fn what_comes_from_the_results_is_text_and_never_markup() {
    let page = page_of(&fixture::rich());
    let page = parsed(&page);
    assert!(elements(page.root(), "b").is_empty());
    assert!(page.descendants().all(|node| node.attribute("onload").is_none()));
    // A group, a drafter, a setup's failure, a wrong answer, a skipped prompt and a warning all hold it.
    for place in ["speed", "answers", "missing", "warnings", "arms"] {
        assert!(text(section(&page, place)).contains(HOSTILE), "{place}");
    }
    let drawn: Vec<_> = elements(page.root(), "title").into_iter().map(text).collect();
    assert!(drawn.iter().any(|title| title.contains(HOSTILE)), "{drawn:?}");
}

#[test]
fn the_headline_is_the_best_sound_arm_of_each_setup() {
    let mut results = fixture::rich();
    let page = page_of(&results);
    let parsed_page = parsed(&page);
    let cards: Vec<_> = classed(parsed_page.root(), "card").into_iter().map(text).collect();
    assert_eq!(cards.len(), 3);
    for said in ["cpu 1.52 × plain decoding", "mixed:4 , 95 % 1.46 to 1.59", "All 60 answers are equal"] {
        assert!(cards[0].contains(said), "{said}: {}", cards[0]);
    }
    assert!(cards[2].contains("llama.cpp another program 0.93"), "{}", cards[2]);
    assert!(cards[2].contains("57 exact, 3 differ"), "{}", cards[2]);

    // The fastest arm is no headline once one of its answers is wrong, or it failed.
    let fastest = results.arms.iter().position(|arm| arm.name == "cpu mixed:4").unwrap();
    for summary in results.summaries.iter_mut().filter(|summary| summary.arm == fastest) {
        summary.equality.wrong = 1;
    }
    let second = results.arms.iter().position(|arm| arm.name == "cpu mixed:2").unwrap();
    results.arms[second].state = ArmState::Failed { reason: "killed".to_owned() };
    let page = page_of(&results);
    let parsed_page = parsed(&page);
    let card = text(classed(parsed_page.root(), "card")[0]);
    assert!(card.contains("1.38 × plain decoding mixed:8"), "{card}");
    assert!(
        card.contains("the fastest of 6 drafting arms measured completely and without a wrong answer"),
        "{card}"
    );
}

#[test]
fn losses_stand_in_the_headline_beside_the_wins() {
    let mut results = fixture::small();
    for summary in results.summaries.iter_mut().filter(|summary| summary.arm == 1) {
        summary.speedup = Some(Estimate { value: 0.8, low: 0.7, high: 0.9 });
    }
    let page = page_of(&results);
    let page = parsed(&page);
    let card = classed(page.root(), "card")[0];
    assert!(text(card).contains("Slower than plain decoding: mixed:2 (0.80)"), "{}", text(card));
    assert_eq!(text(classed(card, "big")[0]), "0.80 × plain decoding");
    assert_eq!(classed(card, "big")[0].attribute("class"), Some("big bad"));
}

#[test]
fn an_interval_that_holds_1_is_neither_win_nor_loss() {
    for value in [0.95, 1.1] {
        let mut results = fixture::small();
        for summary in results.summaries.iter_mut().filter(|summary| summary.arm == 1) {
            summary.speedup = Some(Estimate { value, low: 0.9, high: 1.3 });
        }
        let page = page_of(&results);
        let page = parsed(&page);
        assert!(text(classed(page.root(), "card")[0]).contains("No clear difference to plain decoding."));
        for tone in ["good", "bad"] {
            assert!(classed(section(&page, "speed"), tone).is_empty(), "{tone}");
        }
    }
}

#[test]
fn an_incomplete_run_says_so_before_anything_else() {
    let mut results = fixture::small();
    let page = page_of(&results);
    assert!(classed(parsed(&page).root(), "notice").is_empty());
    results.complete = false;
    results.settings.rounds_done = 1;
    let page = page_of(&results);
    let page = parsed(&page);
    let notices = classed(page.root(), "notice");
    assert!(text(notices[0]).starts_with("Incomplete: the run was stopped after 1 of 3 rounds"));
    assert!(notices[0].range().start < classed(page.root(), "card")[0].range().start);
}

#[test]
fn wrong_answers_are_listed_in_red_with_their_reasons() {
    let page = page_of(&fixture::rich());
    let page = parsed(&page);
    let answers = section(&page, "answers");
    let red: Vec<_> = classed(answers, "bad").into_iter().map(text).collect();
    assert_eq!(red, ["1".to_owned(), format!("plain decoding is surer by 3.20 than {HOSTILE}")]);
    assert!(text(classed(page.root(), "notice")[0]).contains("cpu recycling:80 (1 of 60 prompts)"));
    for said in ["2.1e-4", "3.1e-3", "0.020", "cpu mixed:8"] {
        assert!(text(answers).contains(said), "{said}");
    }
}

#[test]
fn what_is_missing_is_named_with_its_reason() {
    let page = page_of(&fixture::rich());
    let page = parsed(&page);
    let missing = text(section(&page, "missing"));
    for said in [
        "vllm plain absent vllm is not on this machine; pip install vllm",
        "failed server said:",
        "2207 tokens",
    ] {
        assert!(missing.contains(said), "{said}: {missing}");
    }
}

#[test]
fn a_run_without_any_measured_arm_says_so() {
    for results in [fixture::empty(), {
        let mut results = fixture::rich();
        results.summaries.clear();
        results.costs.clear();
        results
    }] {
        let page = page_of(&results);
        let page = parsed(&page);
        assert!(text(classed(page.root(), "notice")[0]).contains("No arm was measured"));
        assert!(elements(page.root(), "figure").is_empty());
    }
}

#[test]
fn what_speaks_of_no_arm_is_left_out_with_a_warning() {
    let mut results = fixture::small();
    results.summaries[0].arm = 99;
    results.records[0].arm = usize::MAX;
    results.records[0].equality = Equality::Wrong { at: 0, reason: "stray".to_owned() };
    let page = page_of(&results);
    let page = parsed(&page);
    assert!(text(section(&page, "warnings")).contains("1 summary and 1 record of unknown arms are left out"));
}

#[test]
fn the_page_names_all_that_a_reader_needs_to_repeat_the_run() {
    let results = fixture::rich();
    let page = page_of(&results);
    let page = parsed(&page);
    let method = text(section(&page, "method"));
    for said in [
        "Each ratio compares two measurements of this run.",
        "AMD EPYC 9654",
        "avx512_vnni",
        "64.0 GiB",
        "0.31, 0.42, 0.40",
        "15.20, 14.90, 11.00",
        "0.07 of 16 processors",
        "95db8b2d41c07e9b1b0b5b2a3a6f1f0c9d1e2f30-dirty",
        "a7a7a7a7",
        "c4c4c4c4",
        "5f5f5f5f",
    ] {
        assert!(method.contains(said), "{said}");
    }
    let arms = text(section(&page, "arms"));
    for arm in &results.arms {
        assert!(arms.contains(&arm.name), "{}", arm.name);
        let drafter = arm.config.lines().last().unwrap();
        assert!(arms.contains(drafter), "{drafter}");
    }
}

#[test]
fn every_kind_of_drawing_is_there_with_a_panel_for_each_group() {
    let page = page_of(&fixture::rich());
    let page = parsed(&page);
    let panels = ["overall", "groups", "sizes", "costs", "depth"]
        .map(|id| elements(section(&page, id), "figure").len());
    assert_eq!(panels, [2, 6, 2, 1, 5]);
    let bars = |id| elements(section(&page, id), "rect").len();
    // 14 drafting arms; and, for tokens a second, three plain ones more.
    assert_eq!(bars("overall"), 14 + 17);
    assert_eq!(bars("groups"), 6 * 14);
}

#[test]
fn one_group_has_no_panels_of_its_own() {
    let page = page_of(&fixture::small());
    let page = parsed(&page);
    assert!(page.descendants().all(|node| node.attribute("id") != Some("groups")));
    assert_eq!(elements(section(&page, "overall"), "figure").len(), 2);
}
