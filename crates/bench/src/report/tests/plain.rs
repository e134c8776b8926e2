//! The table of numbers, the text and the Markdown of the fixtures.

use std::collections::HashMap;

use crate::report::{csv, markdown, text};
use crate::results::Results;

use super::{HOSTILE, fixture};

fn rows(results: &Results) -> Vec<HashMap<String, String>> {
    let bytes = csv(results).unwrap();
    let mut reader = ::csv::Reader::from_reader(bytes.as_slice());
    reader.deserialize().collect::<Result<_, _>>().unwrap()
}

#[test]
fn the_table_of_numbers_has_a_row_for_each_arm_and_group() {
    let results = fixture::rich();
    let rows = rows(&results);
    // The absent arm has one row without figures.
    assert_eq!(rows.len(), results.summaries.len() + 1);
    for summary in &results.summaries {
        let group = summary.group.as_deref().unwrap_or("all");
        let arm = &results.arms[summary.arm].name;
        let row = rows.iter().find(|row| row["arm"] == *arm && row["group"] == group).unwrap();
        assert_eq!(row["tokens_per_second"].parse(), Ok(summary.tokens_per_second.value));
        assert_eq!(row["speedup_low"].parse().ok(), summary.speedup.map(|speedup| speedup.low));
        assert_eq!(row["exact"].parse(), Ok(summary.equality.exact));
        assert_eq!(row["steps"].parse().ok(), summary.steps.as_ref().map(|steps| steps.count));
        let overhead = summary.prediction.as_ref().map(|prediction| prediction.overhead);
        assert_eq!(row["factor_overhead"].parse().ok(), overhead);
    }
    let absent = rows.iter().find(|row| row["arm"] == "vllm plain").unwrap();
    assert_eq!((absent["state"].as_str(), absent["tokens_per_second"].as_str()), ("absent", ""));
}

#[test]
fn the_table_of_numbers_of_nothing_is_its_header() {
    let bytes = csv(&fixture::empty()).unwrap();
    assert_eq!(bytes.iter().filter(|&&byte| byte == b'\n').count(), 1);
    assert!(bytes.starts_with(b"arm,group,state,"));
}

#[test]
fn what_is_not_a_number_is_an_empty_cell() {
    let mut results = fixture::small();
    results.summaries[0].tokens_per_second.value = f64::NAN;
    assert_eq!(rows(&results)[0]["tokens_per_second"], "");
}

#[test]
fn the_text_of_the_small_results_is_this() {
    let expected = "\
2026-03-01 09:30 UTC; 4 prompts, 3 rounds, greedy

All prompts
arm         speed-up [95 %]  tok/s  tok/step  nodes  answers
cpu
  plain                   –    118      1.00   0.00  4 exact
  mixed:2  1.40 [1.34-1.47]    165      1.49   2.00  4 exact

Prediction and measurement
arm        n  MAT(n)  t(n+1)/t(1)  quotient  measured     gap
cpu
  mixed:2  2    1.97         1.30      1.51      1.40  -7.4 %
";
    assert_eq!(text(&fixture::small(), 80), expected);
}

#[test]
fn the_text_names_groups_absences_and_warnings() {
    let text = text(&fixture::rich(), 80);
    for said in [
        "WRONG",
        "Speed-up by group",
        "math-reasoning",
        "- cpu mixed:4: the quotient is 8 % above the measurement",
        "Arms that are absent or failed",
        "vllm is not on this machine",
        "Prompts that were not asked",
        "- Others kept 0.07 processors busy",
    ] {
        assert!(text.contains(said), "{said}");
    }
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()));
}

#[test]
fn a_terminal_of_any_width_is_taken() {
    for width in [0, 1, 2, 10, 39, 80, usize::MAX] {
        assert!(text(&fixture::rich(), width).contains('\n'));
    }
}

#[test]
fn nothing_measured_is_said_in_text_and_markdown() {
    for said in [text(&fixture::empty(), 80), markdown(&fixture::empty())] {
        assert!(said.contains("No arm was measured"), "{said}");
    }
}

#[test]
fn markdown_names_machine_revision_and_models_before_its_tables() {
    let markdown = markdown(&fixture::rich());
    let (head, _) = markdown.split_once("## All prompts").unwrap();
    for said in [
        "AMD EPYC 9654",
        "95db8b2d41c07e9b1b0b5b2a3a6f1f0c9d1e2f30-dirty",
        &"a7".repeat(32),
        &"c4".repeat(32),
    ] {
        assert!(head.contains(said), "{said}");
    }
    for title in ["Speed-up by group", "Prediction and measurement", "Wrong answers", "Warnings"] {
        assert!(markdown.contains(&format!("\n## {title}\n")), "{title}");
    }
    assert!(!markdown.contains(HOSTILE) && !markdown.contains("<b"));
}
