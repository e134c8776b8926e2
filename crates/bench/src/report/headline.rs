//! What a reader should know first: what each setup won, and what lost.

use serde::Serialize;

use crate::results::EqualityCount;

use super::numbers::{one_line, rate, ratio};
use super::table::Tone;
use super::tables::equality;
use super::view::{ArmView, Outcome, Setup, View};

/// What is said of one setup. The page's template reads its fields.
#[derive(Debug, Serialize)]
pub(crate) struct Headline {
    pub(crate) setup: String,
    pub(crate) peer: bool,
    /// What its best drafter won; none where no drafter was measured to its end.
    pub(crate) best: Option<Best>,
    /// Tokens a second of plain decoding.
    pub(crate) plain: Option<String>,
    /// The arms that lost, with their figures.
    pub(crate) slower: Option<String>,
}

/// The best drafter of a setup.
#[derive(Debug, Serialize)]
pub(crate) struct Best {
    pub(crate) arm: String,
    pub(crate) speedup: String,
    pub(crate) low: String,
    pub(crate) high: String,
    pub(crate) tone: Tone,
    /// What the interval says, where that is not a win.
    pub(crate) said: Option<&'static str>,
    /// What it was chosen from.
    pub(crate) among: String,
    pub(crate) tokens_per_second: String,
    /// Whether its answers were those of plain decoding.
    pub(crate) answers: String,
    pub(crate) answers_tone: Tone,
}

/// One for each setup of which anything was measured.
pub(crate) fn headlines(view: &View<'_>) -> Vec<Headline> {
    view.setups.iter().filter(|setup| setup.arms.iter().any(|arm| arm.overall.is_some())).map(of).collect()
}

fn of(setup: &Setup<'_>) -> Headline {
    let plain = setup.arms.iter().find(|arm| !arm.drafts()).and_then(|arm| arm.overall);
    let slower: Vec<String> = setup
        .drafts()
        .filter(|(_, speedup)| Outcome::of(*speedup) == Outcome::Slower)
        .map(|(arm, speedup)| format!("{} ({})", arm.marked(), ratio(speedup.value)))
        .collect();
    Headline {
        setup: one_line(setup.name),
        peer: setup.arms.iter().all(ArmView::is_peer),
        best: best(setup),
        plain: plain.map(|summary| rate(summary.tokens_per_second.value)),
        slower: (!slower.is_empty()).then(|| one_line(&slower.join(", "))),
    }
}

fn best(setup: &Setup<'_>) -> Option<Best> {
    let candidates = setup.candidates();
    let &(arm, speedup) = candidates.iter().max_by(|(_, a), (_, b)| a.value.total_cmp(&b.value))?;
    let summary = arm.overall?;
    let (tone, said) = match Outcome::of(speedup) {
        Outcome::Faster => (Tone::Good, None),
        Outcome::Slower => (Tone::Bad, None),
        Outcome::Unclear => (Tone::Plain, Some("No clear difference to plain decoding.")),
    };
    let mut among = match candidates.len() {
        1 => "the only drafting arm".to_owned(),
        several => format!("the fastest of {several} drafting arms"),
    };
    if candidates.len() < setup.drafts().count() {
        let sound = summary.equality.wrong == 0;
        among.push_str(if sound { " that ran through without a wrong answer" } else { " that ran through" });
    }
    let (answers, answers_tone) = answers(summary.equality);
    Some(Best {
        arm: one_line(arm.label),
        speedup: ratio(speedup.value),
        low: ratio(speedup.low),
        high: ratio(speedup.high),
        tone,
        said,
        among,
        tokens_per_second: rate(summary.tokens_per_second.value),
        answers,
        answers_tone,
    })
}

fn answers(judged: EqualityCount) -> (String, Tone) {
    let (said, tone) = equality(judged);
    if judged.exact > 0 && judged == (EqualityCount { exact: judged.exact, ..EqualityCount::default() }) {
        return (format!("All {} answers equal plain decoding's to the token.", judged.exact), Tone::Good);
    }
    (format!("Answers against plain decoding's: {said}."), tone)
}
