//! The text of the fixtures.

use super::fixture;
use crate::report::text;

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
        "Absent and failed arms",
        "vllm is not on this machine",
        "Skipped prompts",
        "- Other programs kept 0.07 processors busy",
    ] {
        assert!(text.contains(said), "{said}");
    }
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()));
}

#[test]
fn any_terminal_width_works() {
    for width in [0, 1, 2, 10, 39, 80, usize::MAX] {
        assert!(text(&fixture::rich(), width).contains('\n'));
    }
}

#[test]
fn the_text_of_an_empty_run_says_so() {
    let text = text(&fixture::empty(), 80);
    assert!(text.contains("No arm was measured"), "{text}");
}
