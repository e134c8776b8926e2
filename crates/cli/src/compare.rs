//! `upcycle run --compare`: one prompt with the drafter and by plain decoding.

use upcycle::{AnyDecoder, AnyDrafter, Config};
use upcycle_core::{Decoder, NullDrafter, TokenId};

use crate::answer::{Answer, Speaker};
use crate::failure::Failure;
use crate::output::Output;

/// Streams the drafter's answer, decodes the same prompt plainly, and prints how they compare. Fails if the texts
/// differ.
pub(crate) fn compare(
    config: &Config,
    speaker: &Speaker<'_>,
    mut decoder: AnyDecoder,
    prompt: &[TokenId],
    output: &mut Output,
) -> Result<(), Failure> {
    let drafted = speaker.answer(&mut decoder, prompt, &mut |text| output.text(text))?;
    output.text(if drafted.text.ends_with('\n') { "\n" } else { "\n\n" })?;
    drafted.check_interrupt()?;

    let (verifier, _) = decoder.into_parts();
    let mut decoder = Decoder::new(verifier, AnyDrafter::None(NullDrafter));
    let plain = speaker.answer(&mut decoder, prompt, &mut |_| Ok(()))?;
    plain.check_interrupt()?;

    let (table, same) = table(config.drafter().name(), &drafted, &plain);
    output.text(&table)?;
    if same { Ok(()) } else { Err(Failure::Negative) }
}

/// Both answers side by side, and whether they are the same to the token.
fn table(drafter: &str, drafted: &Answer, plain: &Answer) -> (String, bool) {
    let same = drafted.tokens == plain.tokens;
    let head = format!("{:<14} {:>10} {:>15} {:>7}", "drafter", "tokens/s", "tokens a step", "steps");
    let verdict = format!("same text: {}", if same { "yes" } else { "NO" });
    (format!("{head}\n{}\n{}\n{verdict}\n", row("none", plain), row(drafter, drafted)), same)
}

fn row(drafter: &str, answer: &Answer) -> String {
    let stats = &answer.stats;
    format!(
        "{drafter:<14} {:>10.1} {:>15.3} {:>7}",
        stats.tokens_per_second(),
        stats.tokens_per_step(),
        stats.steps()
    )
}

#[cfg(test)]
mod tests {
    use upcycle_core::{FinishReason, Footprint, Stats, TokenId};

    use super::*;

    fn answer(tokens: &[TokenId]) -> Answer {
        Answer {
            text: "shown".to_owned(),
            tokens: tokens.to_vec(),
            prompt_tokens: 1,
            finish: FinishReason::MaxTokens,
            stats: Stats::default(),
            footprint: Footprint::default(),
            sources: Vec::new(),
            budget: None,
        }
    }

    #[test]
    fn answers_are_the_same_only_to_the_token() {
        let plain = answer(&[1, 2, 3]);
        for (tokens, expected) in
            [(&[1, 2, 3][..], true), (&[1, 2, 4], false), (&[1, 2], false), (&[], false)]
        {
            let (text, same) = table("recycling", &answer(tokens), &plain);
            assert_eq!(same, expected, "{tokens:?}");
            assert!(text.ends_with(if expected { "same text: yes\n" } else { "same text: NO\n" }), "{text}");
        }
    }
}
