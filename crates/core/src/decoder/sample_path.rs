//! Draws the model's own tokens down the trees.

use super::Decoder;
use crate::accept::accept;
use crate::drafter::Phase;
use crate::sampling::Sampler;
use crate::session::StepOutcome;
use crate::verifier::VerifyError;
use crate::{DecodeError, Drafter, NodeId, Row, Session, TokenId, TopK, Verifier};

impl<V: Verifier, D: Drafter> Decoder<V, D> {
    /// Draws a session's tokens down its tree, step `index` of the pass, and decides what to emit.
    pub(super) fn accept(&mut self, session: &mut Session, index: usize) -> Result<(), DecodeError> {
        let start = self.clock.now();
        let phase = session.phase();
        let len = session.tokens.len();
        let Session { tree, accepted_path, tokens, sampler, prompt_len, committed, .. } = session;
        let mut draw = |node: NodeId| {
            let row = Row { input: index, node: node.index() };
            let token = own_token(&mut self.verifier, &self.top, sampler.as_mut(), row, tokens)?;
            tokens.push(token);
            Ok(token)
        };
        let walked: Result<(), VerifyError> = match phase {
            Phase::Decode => accept(tree, accepted_path, draw),
            Phase::Prefill => {
                accepted_path.nodes.clear();
                accepted_path.nodes.extend(tree.nodes());
                accepted_path.sampled.clear();
                // The last row of the prompt gives the first token of the output.
                if *committed + tree.len() == *prompt_len {
                    draw(NodeId::new(tree.len() - 1)).map(|token| accepted_path.sampled.push(token))
                } else {
                    Ok(())
                }
            }
        };
        let (emit, finish) =
            if walked.is_ok() { session.cut(session.accepted_path.sampled.len()) } else { (0, None) };
        // Until the verifier has committed, the session is as it was.
        session.tokens.truncate(len);
        walked?;
        let keep = if phase == Phase::Prefill { session.accepted_path.nodes.len() } else { emit };
        session.outcome = StepOutcome { keep, emit, finish };
        let time = self.since(start);
        if phase == Phase::Prefill {
            session.stats.time.prefill += time;
        } else {
            session.stats.time.accept += time;
        }
        Ok(())
    }
}

/// The token that the model itself puts after `tokens`, by its row.
fn own_token<V: Verifier>(
    verifier: &mut V,
    top: &TopK,
    sampler: Option<&mut Sampler>,
    row: Row,
    tokens: &[TokenId],
) -> Result<TokenId, VerifyError> {
    match sampler {
        Some(sampler) => Ok(sampler.choose(verifier.logits(row)?, tokens.len(), tokens).token),
        None => {
            let candidates = top.get(row).ok_or(VerifyError::NoSuchRow { row })?;
            candidates.ids.first().copied().ok_or(VerifyError::NoSuchRow { row })
        }
    }
}
