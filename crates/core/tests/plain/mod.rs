//! Plain decoding as a loop without a decoder: the reference for every text.

use upcycle_core::{FinishReason, LogitBias, Request, Sampler, Sampling, SamplingConfig, TokenId, Verifier};
use upcycle_testkit::NaiveVerifier;

/// One prompt with its request.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) prompt: Vec<TokenId>,
    pub(crate) sampling: SamplingConfig,
    pub(crate) max_tokens: usize,
    pub(crate) end_of_sequence: Vec<TokenId>,
    /// Stops where the sum of the last two tokens is this.
    pub(crate) stop_sum: Option<u32>,
    pub(crate) bias: Vec<(TokenId, f32)>,
    pub(crate) logprobs: Option<usize>,
}

impl Case {
    fn stops(sum: Option<u32>, output: &[TokenId]) -> bool {
        output.len() > 1 && sum == Some(output[output.len() - 2..].iter().sum())
    }

    pub(crate) fn request(&self) -> Request {
        let sum = self.stop_sum;
        Request {
            sampling: Sampling::new(self.sampling).unwrap(),
            max_tokens: self.max_tokens,
            end_of_sequence: self.end_of_sequence.clone(),
            stop: sum.is_some().then(|| Box::new(move |output: &[TokenId]| Self::stops(sum, output)) as _),
            logit_bias: LogitBias::new(self.bias.iter().copied()).unwrap(),
            logprobs: self.logprobs,
        }
    }

    /// Plain decoding, one token after the other, each from the whole text before it.
    pub(crate) fn plain(&self, model: &NaiveVerifier) -> (Vec<TokenId>, FinishReason) {
        let mut sampler = Sampler::new(Sampling::new(self.sampling).unwrap());
        let mut tokens = self.prompt.clone();
        if self.max_tokens == 0 {
            return (Vec::new(), FinishReason::MaxTokens);
        }
        loop {
            let mut logits = model.logits_after(&tokens);
            self.bias.iter().for_each(|&(token, bias)| logits[token as usize] += bias);
            let token = sampler.sample(&logits, tokens.len(), &tokens).token;
            tokens.push(token);
            let output = &tokens[self.prompt.len()..];
            let finish = if self.end_of_sequence.contains(&token) {
                FinishReason::EndOfSequence
            } else if Self::stops(self.stop_sum, output) {
                FinishReason::StopString
            } else if output.len() == self.max_tokens {
                FinishReason::MaxTokens
            } else if tokens.len() > model.limits().max_context {
                FinishReason::ContextFull
            } else {
                continue;
            };
            return (output.to_vec(), finish);
        }
    }
}
