//! `upcycle run --compare`: answers one prompt with the drafter and with plain decoding.

use upcycle::{AnyDecoder, Config};
use upcycle_core::{Decoder, Drafter, NullDrafter, TokenId};

use crate::answer::{Answer, Responder};
use crate::failure::Failure;
use crate::output::Output;

/// Streams the drafted answer, decodes the same prompt without drafts, and prints both results. Fails if the tokens
/// differ.
pub(crate) fn compare(
    config: &Config,
    responder: &Responder<'_>,
    mut decoder: AnyDecoder,
    prompt: &[TokenId],
    output: &mut Output,
) -> Result<(), Failure> {
    let drafted = responder.answer(&mut decoder, prompt, &mut |text| output.text(text))?;
    output.text(if drafted.text.ends_with('\n') { "\n" } else { "\n\n" })?;
    drafted.check_interrupt()?;

    let (verifier, _) = decoder.into_parts();
    let mut decoder = Decoder::new(verifier, Box::new(NullDrafter) as Box<dyn Drafter>);
    let plain = responder.answer(&mut decoder, prompt, &mut |_| Ok(()))?;
    plain.check_interrupt()?;

    let (table, same) = table(config.drafter().name(), &drafted, &plain);
    output.text(&table)?;
    if same { Ok(()) } else { Err(Failure::Reported) }
}

/// A table of both answers, and whether their tokens are equal.
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
    fn answers_are_equal_only_if_all_tokens_are() {
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
