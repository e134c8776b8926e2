//! Samples the model's own tokens along the trees.

use super::Decoder;
use super::step::ActiveSession;
use crate::accept::accept;
use crate::drafter::{Drafter, Phase};
use crate::logprobs::TokenLogprobs;
use crate::sampling::Sampler;
use crate::session::Session;
use crate::token::{Row, TokenId};
use crate::top::TopK;
use crate::tree::NodeId;
use crate::verifier::{Verifier, VerifyError};

impl<V: Verifier, D: Drafter> Decoder<V, D> {
    /// Samples tokens along a session's tree and decides what to emit. The session's text does not change yet.
    pub(super) fn sample_path(&mut self, active: &mut ActiveSession<'_>) -> Result<(), VerifyError> {
        let start = self.clock.now();
        let phase = active.session.phase();
        let len = active.session.tokens.len();
        let Session {
            tree, accepted_path, tokens, sampler, prompt_len, committed, request, logprobs, ..
        } = &mut *active.session;
        logprobs.clear();
        let mut sample = |node: NodeId| {
            let row = Row { input: active.input, node: node.index() };
            let token = next_token(&mut self.verifier, &self.top, sampler.as_mut(), row, tokens)?;
            if let Some(count) = request.logprobs {
                logprobs.push(TokenLogprobs::new(self.verifier.logits(row)?, token, count));
            }
            tokens.push(token);
            Ok(token)
        };
        let sampled = match phase {
            Phase::Decode => accept(tree, accepted_path, sample),
            Phase::Prefill => {
                accepted_path.nodes.clear();
                accepted_path.nodes.extend(tree.nodes());
                accepted_path.sampled.clear();
                // The last row of the prompt gives the first token of the output.
                if *committed + tree.len() == *prompt_len {
                    sample(NodeId::new(tree.len() - 1)).map(|token| accepted_path.sampled.push(token))
                } else {
                    Ok(())
                }
            }
        };
        if sampled.is_ok() {
            active.cut = active.session.cut_path();
        }
        // The session must not change before the verifier has committed.
        active.session.tokens.truncate(len);
        sampled?;
        let time = self.since(start);
        let times = &mut active.session.stats.time;
        match phase {
            Phase::Prefill => times.prefill += time,
            Phase::Decode => times.accept += time,
        }
        Ok(())
    }
}

/// The token that the model itself chooses after `tokens`, from its row.
fn next_token<V: Verifier>(
    verifier: &mut V,
    top: &TopK,
    sampler: Option<&mut Sampler>,
    row: Row,
    tokens: &[TokenId],
) -> Result<TokenId, VerifyError> {
    match sampler {
        Some(sampler) => Ok(sampler.sample(verifier.logits(row)?, tokens.len(), tokens).token),
        None => {
            let best = top.get(row).and_then(|candidates| candidates.ids.first().copied());
            best.ok_or(VerifyError::NoSuchRow { row })
        }
    }
}
