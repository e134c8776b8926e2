//! Whether an answer is that of plain decoding: exactly, within the margin, or not.

use upcycle_core::{DecodeError, Margin, TokenId, Verifier};

use super::answer::{self, Ask};
use super::lane::{Measured, chain};
use crate::results::Equality;

/// The first place at which two answers differ; the shorter one differs where it ends.
pub(super) fn parting(found: &[TokenId], plain: &[TokenId]) -> Option<usize> {
    let common = found.iter().zip(plain).take_while(|(a, b)| a == b).count();
    (common < found.len().max(plain.len())).then_some(common)
}

/// An answer parts from the plain one at `at`: both passes are scored again there, the drafted one with the trees that
/// it was measured with.
pub(super) fn judge(
    verifier: &mut dyn Verifier,
    ask: Ask<'_>,
    measured: &Measured,
    plain: &Measured,
    at: usize,
    cap: f32,
) -> Equality {
    let wrong = |reason: String| Equality::Wrong { at, reason };
    if at >= plain.tokens.len() || at >= measured.tokens.len() {
        return wrong(format!(
            "one of the answers ends there: {} tokens, and {} of plain decoding",
            measured.tokens.len(),
            plain.tokens.len()
        ));
    }
    let mut rows = || -> Result<_, DecodeError> {
        let plain = answer::plain_row(&mut *verifier, ask, at)?;
        let other = answer::taped_row(&mut *verifier, ask, (&measured.tape, measured.prompt_rows), at)?;
        Ok((plain, other))
    };
    let (plain_row, other) = match rows() {
        Ok(rows) => rows,
        Err(error) => return wrong(format!("the passes could not be repeated: {}", chain(&error))),
    };
    let before = [ask.prompt, &plain.tokens[..at]].concat();
    let margin = Margin::of(&plain_row, &other, ask.sampling, &before);
    if margin.explains(cap) {
        let Margin { gap, change, .. } = margin;
        return Equality::WithinMargin { at, gap, change, cap: f64::from(cap) };
    }
    wrong(format!(
        "token {} instead of {}: {margin}; the backend states at most {cap}",
        measured.tokens[at], plain.tokens[at]
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_part_where_they_first_differ_or_where_one_ends() {
        assert_eq!(parting(&[1, 2, 3], &[1, 2, 3]), None);
        assert_eq!(parting(&[1, 9, 3], &[1, 2, 3]), Some(1));
        assert_eq!(parting(&[1, 2], &[1, 2, 3]), Some(2));
        assert_eq!(parting(&[1, 2, 3], &[]), Some(0));
        assert_eq!(parting(&[], &[]), None);
    }
}
