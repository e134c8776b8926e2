//! Draws the model's own tokens down the trees.

use super::Decoder;
use crate::accept::accept;
use crate::choose::Sampler;
use crate::drafter::Phase;
use crate::session::Verdict;
use crate::verifier::VerifyError;
use crate::{DecodeError, Drafter, NodeId, Row, Session, TokenId, TopK, Verifier};

impl<V: Verifier, D: Drafter> Decoder<V, D> {
    /// Draws a session's tokens down its tree, step `index` of the pass, and decides what to emit.
    pub(super) fn accept(&mut self, session: &mut Session, index: usize) -> Result<(), DecodeError> {
        let start = self.clock.now();
        let phase = session.phase();
        let len = session.tokens.len();
        let Session { tree, walk, tokens, sampler, prompt_len, committed, .. } = session;
        let mut draw = |node: NodeId| {
            let row = Row { step: index, node: node.index() };
            let token = own_token(&mut self.verifier, &self.top, sampler.as_mut(), row, tokens)?;
            tokens.push(token);
            Ok(token)
        };
        let walked: Result<(), VerifyError> = match phase {
            Phase::Decode => accept(tree, walk, draw),
            Phase::Prefill => {
                walk.path.clear();
                walk.path.extend(tree.nodes());
                walk.drawn.clear();
                // The last row of the prompt gives the first token of the output.
                if *committed + tree.len() == *prompt_len {
                    draw(NodeId::new(tree.len() - 1)).map(|token| walk.drawn.push(token))
                } else {
                    Ok(())
                }
            }
        };
        let (emit, finish) = if walked.is_ok() { session.cut(session.walk.drawn.len()) } else { (0, None) };
        // Until the verifier has committed, the session is as it was.
        session.tokens.truncate(len);
        walked?;
        let keep = if phase == Phase::Prefill { session.walk.path.len() } else { emit };
        session.verdict = Verdict { keep, emit, finish };
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
