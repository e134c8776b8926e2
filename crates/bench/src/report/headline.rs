//! The headlines: the best result of each setup, and all losses.

use serde::Serialize;

use crate::results::EqualityCount;

use super::numbers::{one_line, rate, ratio};
use super::table::Tone;
use super::tables::equality;
use super::view::{ArmView, SetupView, SpeedupVerdict, View};

/// The headline of one setup. The page template reads its fields.
#[derive(Debug, Serialize)]
pub(crate) struct Headline {
    pub(crate) setup: String,
    pub(crate) peer: bool,
    /// Its best drafter; none if no drafter was measured completely.
    pub(crate) best: Option<Best>,
    /// Tokens per second of plain decoding.
    pub(crate) plain: Option<String>,
    /// The arms slower than plain decoding.
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
    /// A remark, if the interval contains 1.
    pub(crate) remark: Option<&'static str>,
    /// The arms it was chosen from.
    pub(crate) among: String,
    pub(crate) tokens_per_second: String,
    /// The comparison of its answers with plain decoding's.
    pub(crate) answers: String,
    pub(crate) answers_tone: Tone,
}

/// One headline per measured setup.
pub(crate) fn headlines(view: &View<'_>) -> Vec<Headline> {
    view.setups
        .iter()
        .filter(|setup| setup.arms.iter().any(|arm| arm.overall.is_some()))
        .map(headline)
        .collect()
}

fn headline(setup: &SetupView<'_>) -> Headline {
    let plain = setup.arms.iter().find(|arm| !arm.drafts()).and_then(|arm| arm.overall);
    let slower: Vec<String> = setup
        .drafts()
        .filter(|(_, speedup)| SpeedupVerdict::from_speedup(*speedup) == SpeedupVerdict::Slower)
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

fn best(setup: &SetupView<'_>) -> Option<Best> {
    let candidates = setup.candidates();
    let &(arm, speedup) = candidates.iter().max_by(|(_, a), (_, b)| a.value.total_cmp(&b.value))?;
    let summary = arm.overall?;
    let (tone, remark) = match SpeedupVerdict::from_speedup(speedup) {
        SpeedupVerdict::Faster => (Tone::Good, None),
        SpeedupVerdict::Slower => (Tone::Bad, None),
        SpeedupVerdict::Unclear => (Tone::Plain, Some("No clear difference to plain decoding.")),
    };
    let mut among = match candidates.len() {
        1 => "the only drafting arm".to_owned(),
        several => format!("the fastest of {several} drafting arms"),
    };
    if candidates.len() < setup.drafts().count() {
        let sound = summary.equality.wrong == 0;
        among.push_str(if sound {
            " measured completely and without a wrong answer"
        } else {
            " measured completely"
        });
    }
    let (answers, answers_tone) = answers(summary.equality);
    Some(Best {
        arm: one_line(arm.label),
        speedup: ratio(speedup.value),
        low: ratio(speedup.low),
        high: ratio(speedup.high),
        tone,
        remark,
        among,
        tokens_per_second: rate(summary.tokens_per_second.value),
        answers,
        answers_tone,
    })
}

fn answers(judged: EqualityCount) -> (String, Tone) {
    let (said, tone) = equality(judged);
    if judged.exact > 0 && judged == (EqualityCount { exact: judged.exact, ..EqualityCount::default() }) {
        return (
            format!("All {} answers are equal to plain decoding's, token for token.", judged.exact),
            Tone::Good,
        );
    }
    (format!("Answers compared with plain decoding's: {said}."), tone)
}
