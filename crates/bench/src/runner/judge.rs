//! Compares an answer with plain decoding's: exact, within the margin, or wrong.

use upcycle_core::{DecodeError, Margin, TokenId, Verifier};

use super::answer::{self, AnswerRequest};
use super::measured::MeasuredAnswer;
use crate::error::error_chain;
use crate::results::Equality;

/// The first index at which two answers differ. A shorter answer differs where it ends.
pub(super) fn first_difference(found: &[TokenId], plain: &[TokenId]) -> Option<usize> {
    let common = found.iter().zip(plain).take_while(|(a, b)| a == b).count();
    (common < found.len().max(plain.len())).then_some(common)
}

/// Judges an answer that differs from the plain one at `at`. Both passes are scored again there, the drafted one with its
/// recorded trees. `tolerance` is the rounding that the backend states.
pub(super) fn judge(
    verifier: &mut dyn Verifier,
    request: AnswerRequest<'_>,
    measured: &MeasuredAnswer,
    plain: &MeasuredAnswer,
    at: usize,
    tolerance: f32,
) -> Equality {
    let wrong = |reason: String| Equality::Wrong { at, reason };
    if at >= plain.tokens.len() || at >= measured.tokens.len() {
        return wrong(format!(
            "the answer has {} tokens, plain decoding's has {}",
            measured.tokens.len(),
            plain.tokens.len()
        ));
    }
    let mut rows = || -> Result<_, DecodeError> {
        let plain = answer::plain_row(&mut *verifier, request, at)?;
        let replay = (&*measured.recorded_trees, measured.prompt_rows);
        Ok((plain, answer::replayed_row(&mut *verifier, request, replay, at)?))
    };
    let (plain_row, drafted_row) = match rows() {
        Ok(rows) => rows,
        Err(error) => return wrong(format!("the passes cannot be repeated: {}", error_chain(&error))),
    };
    let before = [request.prompt, &plain.tokens[..at]].concat();
    let margin = Margin::new(&plain_row, &drafted_row, request.sampling, &before);
    if margin.explains(tolerance) {
        let Margin { gap, change, .. } = margin;
        return Equality::WithinMargin { at, gap, change, cap: f64::from(tolerance) };
    }
    wrong(format!(
        "token {} instead of {}: {margin}; the backend states at most {tolerance}",
        measured.tokens[at], plain.tokens[at]
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_differ_at_the_first_other_token_or_where_one_ends() {
        assert_eq!(first_difference(&[1, 2, 3], &[1, 2, 3]), None);
        assert_eq!(first_difference(&[1, 9, 3], &[1, 2, 3]), Some(1));
        assert_eq!(first_difference(&[1, 2], &[1, 2, 3]), Some(2));
        assert_eq!(first_difference(&[1, 2, 3], &[]), Some(0));
        assert_eq!(first_difference(&[], &[]), None);
    }
}
