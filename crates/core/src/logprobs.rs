//! Log probabilities of emitted tokens.

use crate::token::TokenId;
use crate::top::{log_sum_exp, select};

/// The log probability of an emitted token, and those of the most probable tokens in its place.
///
/// They are of the model's own distribution: the softmax of its logits, before a bias, a penalty, the temperature and filters.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenLogprobs {
    /// The emitted token.
    pub token: TokenId,
    /// The natural logarithm of its probability.
    pub logprob: f32,
    /// The most probable tokens with their log probabilities, the best first, equal ones by ascending id. As many as the request
    /// asks for, or as the vocabulary has.
    pub top: Vec<(TokenId, f32)>,
}

impl TokenLogprobs {
    /// Those of `token` and of the `count` most probable tokens, from a full row of finite logits, `[vocab]`. O(vocab).
    ///
    /// A `token` outside the row has the log probability minus infinity.
    #[must_use]
    pub fn new(logits: &[f32], token: TokenId, count: usize) -> Self {
        let log_sum = log_sum_exp(logits);
        let logit = logits.get(token as usize).copied().unwrap_or(f32::NEG_INFINITY);
        let count = count.min(logits.len());
        let (mut ids, mut best) = (vec![0; count], vec![0.0; count]);
        if count > 0 {
            select(logits, &mut ids, &mut best);
        }
        let top = ids.into_iter().zip(best).map(|(id, logit)| (id, logit - log_sum)).collect();
        Self { token, logprob: logit - log_sum, top }
    }
}
