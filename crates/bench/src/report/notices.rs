//! Notices that must be read before any figure.

use super::numbers::{count, one_line};
use super::view::View;

/// A paragraph each: the run is incomplete, nothing was measured, or an answer is wrong.
pub(crate) fn notices(view: &View<'_>) -> Vec<String> {
    let settings = &view.results.settings;
    let mut notices = Vec::new();
    let mut say = |text: String| notices.push(text);
    if !view.results.complete {
        say(format!(
            "Incomplete: the run was stopped after {} of {}. The figures cover the measurements so far.",
            settings.rounds_done,
            count(settings.rounds, "round", "rounds"),
        ));
    }
    if !view.is_measured() {
        say("No arm was measured, so there are no figures.".to_owned());
    }
    let wrong = view.wrong();
    if !wrong.is_empty() {
        let arms: Vec<String> = wrong
            .iter()
            .map(|(arm, summary)| {
                let prompts = count(summary.prompts, "prompt", "prompts");
                format!("{} ({} of {prompts})", arm.arm.name, summary.equality.wrong)
            })
            .collect();
        say(one_line(&format!(
            "WRONG answers: they differ from plain decoding's, and rounding does not explain it: {}. Do not trust the \
             speed of these arms.",
            arms.join(", "),
        )));
    }
    notices
}
