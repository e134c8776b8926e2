//! One measured answer.

use sha2::{Digest, Sha256};
use upcycle_core::{RowSelection, TokenId};

use super::answer::RecordedTree;
use crate::prompts::Prompt;
use crate::results::{Equality, Record, Steps};

/// One measured answer.
#[derive(Debug)]
pub(super) struct MeasuredAnswer {
    pub(super) tokens: Vec<TokenId>,
    pub(super) prompt_tokens: usize,
    pub(super) prefill_seconds: f64,
    pub(super) decode_tokens: usize,
    pub(super) decode_seconds: f64,
    pub(super) steps: Option<Steps>,
    pub(super) peak_memory: Option<u64>,
    /// The draft trees, to repeat the same passes; empty for peers.
    pub(super) recorded_trees: Vec<RecordedTree>,
    pub(super) prompt_rows: RowSelection,
}

impl MeasuredAnswer {
    pub(super) fn record(&self, arm: usize, round: usize, prompt: &Prompt, equality: Equality) -> Record {
        Record {
            arm,
            question: prompt.question(),
            group: prompt.group.clone(),
            round,
            prompt_tokens: self.prompt_tokens,
            tokens: self.tokens.len(),
            digest: digest(&self.tokens),
            prefill_seconds: self.prefill_seconds,
            decode_tokens: self.decode_tokens,
            decode_seconds: self.decode_seconds,
            steps: self.steps.clone(),
            peak_memory: self.peak_memory,
            equality,
        }
    }
}

/// The first 16 hex digits of the SHA-256 of the ids: equal answers have equal digests.
fn digest(tokens: &[TokenId]) -> String {
    let bytes: Vec<u8> = tokens.iter().flat_map(|token| token.to_le_bytes()).collect();
    let mut digits = format!("{:x}", Sha256::digest(bytes));
    digits.truncate(16);
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_answers_have_different_digests() {
        assert_eq!(digest(&[1, 2]), digest(&[1, 2]));
        assert_ne!(digest(&[1, 2]), digest(&[2, 1]));
        assert_eq!(digest(&[]).len(), 16);
    }
}
