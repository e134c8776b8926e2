//! Answers one prompt and records its draft trees. Repeats an answer with the recorded trees to read its logits.

use std::collections::VecDeque;

use upcycle_core::{
    DecodeError, Decoder, DraftContext, DraftTree, Drafter, NodeId, NullDrafter, Request, Row, RowSelection,
    Sampling, Session, Stats, TokenId, Verifier,
};

/// How every prompt of a run is answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DecodeSettings {
    pub(crate) max_tokens: usize,
    pub(crate) sampling: Sampling,
}

/// A prompt and how to answer it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AnswerRequest<'a> {
    pub(crate) prompt: &'a [TokenId],
    pub(crate) end_of_sequence: &'a [TokenId],
    pub(crate) max_tokens: usize,
    pub(crate) sampling: Sampling,
}

impl AnswerRequest<'_> {
    fn request(&self) -> Request {
        Request {
            sampling: self.sampling,
            end_of_sequence: self.end_of_sequence.to_vec(),
            ..Request::greedy(self.max_tokens)
        }
    }
}

/// An answer and its statistics.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) tokens: Vec<TokenId>,
    pub(crate) stats: Stats,
    /// The draft tree of each decoding step.
    pub(crate) recorded_trees: Vec<RecordedTree>,
}

/// Parent and token of each node of a tree except its root.
pub(crate) type RecordedTree = Vec<(u32, TokenId)>;

/// Answers a prompt; none if `interrupted`.
pub(crate) fn answer<V: Verifier, D: Drafter>(
    decoder: &mut Decoder<V, D>,
    request: AnswerRequest<'_>,
    interrupted: &dyn Fn() -> bool,
) -> Result<Option<Answer>, DecodeError> {
    let mut session = decoder.open(request.prompt, request.request())?;
    let decoded = decode(decoder, &mut session, interrupted);
    let tokens = session.output().to_vec();
    // Closed at once in any case: other decoders use the same verifier.
    let stats = decoder.close(session);
    Ok(decoded?.map(|recorded_trees| Answer { tokens, stats, recorded_trees }))
}

/// Decodes `session` to its end and returns its trees; none if `interrupted`.
fn decode<V: Verifier, D: Drafter>(
    decoder: &mut Decoder<V, D>,
    session: &mut Session,
    interrupted: &dyn Fn() -> bool,
) -> Result<Option<Vec<RecordedTree>>, DecodeError> {
    let mut recorded_trees = Vec::new();
    while session.finish_reason().is_none() {
        if interrupted() {
            return Ok(None);
        }
        let steps = session.stats().steps();
        decoder.step_one(session)?;
        if session.stats().steps() > steps {
            let tree = session.tree();
            recorded_trees.push(tree.nodes().skip(1).map(|node| recorded_node(tree, node)).collect());
        }
    }
    Ok(Some(recorded_trees))
}

fn recorded_node(tree: &DraftTree, node: NodeId) -> (u32, TokenId) {
    (tree.parents()[node.index()], tree.tokens()[node.index()])
}

/// The logits, `[vocab]`, of the answer's token `at` in plain decoding.
pub(crate) fn plain_row<V: Verifier>(
    verifier: V,
    request: AnswerRequest<'_>,
    at: usize,
) -> Result<Vec<f32>, DecodeError> {
    row(Decoder::new(verifier, NullDrafter), request, at)
}

/// The logits, `[vocab]`, of the answer's token `at` in the passes of the recorded trees.
pub(crate) fn replayed_row<V: Verifier>(
    verifier: V,
    request: AnswerRequest<'_>,
    (recorded_trees, prompt_rows): (&[RecordedTree], RowSelection),
    at: usize,
) -> Result<Vec<f32>, DecodeError> {
    row(
        Decoder::new(
            verifier,
            ReplayDrafter { trees: recorded_trees.iter().cloned().collect(), prompt_rows },
        ),
        request,
        at,
    )
}

fn row<V: Verifier, D: Drafter>(
    mut decoder: Decoder<V, D>,
    request: AnswerRequest<'_>,
    at: usize,
) -> Result<Vec<f32>, DecodeError> {
    let mut session = decoder.open(request.prompt, request.request())?;
    let logits = logits_at(&mut decoder, &mut session, at);
    decoder.close(session);
    logits
}

fn logits_at<V: Verifier, D: Drafter>(
    decoder: &mut Decoder<V, D>,
    session: &mut Session,
    at: usize,
) -> Result<Vec<f32>, DecodeError> {
    let mut before = 0;
    while session.output().len() <= at {
        if session.finish_reason().is_some() {
            // The repeated answer ended earlier: there is no such row.
            return Ok(Vec::new());
        }
        before = session.output().len();
        decoder.step_one(session)?;
    }
    let row = Row { input: 0, node: row_node(session, at - before) };
    Ok(decoder.verifier_mut().logits(row)?.to_vec())
}

/// The node whose row gave token `index` of the last step.
fn row_node(session: &Session, index: usize) -> usize {
    session.accepted_path().sampled_from(index).map_or(0, |node| node.index())
}

/// Drafts recorded trees.
struct ReplayDrafter {
    trees: VecDeque<RecordedTree>,
    prompt_rows: RowSelection,
}

impl Drafter for ReplayDrafter {
    fn draft(&mut self, _: DraftContext<'_>, tree: &mut DraftTree) {
        for (parent, token) in self.trees.pop_front().unwrap_or_default() {
            // A node that does not fit did not fit when the tree was recorded either.
            let _ = tree.push(NodeId::new(parent as usize), token, None);
        }
    }

    fn prompt_rows(&self) -> RowSelection {
        self.prompt_rows
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use upcycle_core::{AdjacencyMatrix, SamplingConfig, TokenRecycling, TreeTemplate};
    use upcycle_testkit::NaiveVerifier;

    use super::*;

    proptest! {
        #[test]
        fn recorded_trees_give_the_rows_of_plain_decoding_at_every_token(
            seed in 0_u64..200,
            at in 0_usize..24,
            sampling in any::<bool>(),
        ) {
            let config = SamplingConfig { temperature: if sampling { 0.7 } else { 0.0 }, seed, ..SamplingConfig::default() };
            let request = AnswerRequest {
                prompt: &[1, 2, 3, 4],
                end_of_sequence: &[],
                max_tokens: 24,
                sampling: Sampling::new(config).unwrap(),
            };
            let model = || NaiveVerifier::new(24, seed);
            let recycling = TokenRecycling::new(AdjacencyMatrix::new(24, 4).unwrap(), TreeTemplate::paper_80());
            let mut decoder = Decoder::new(model(), recycling).with_budget(12);
            // Twice, so that the second answer drafts from a filled matrix.
            answer(&mut decoder, request, &|| false).unwrap();
            let answer = answer(&mut decoder, request, &|| false).unwrap().unwrap();
            prop_assert!(answer.recorded_trees.iter().any(|tree| tree.len() > 3));
            let plain = plain_row(model(), request, at).unwrap();
            let replayed = replayed_row(model(), request, (&answer.recorded_trees, RowSelection::Last), at).unwrap();
            prop_assert_eq!(plain.len(), 24);
            prop_assert_eq!(&plain, &replayed);
            let before = [request.prompt, &answer.tokens[..at]].concat();
            let sampled = upcycle_core::Sampler::new(request.sampling).sample(&plain, before.len(), &before).token;
            prop_assert_eq!(sampled, answer.tokens[at]);
        }
    }

    #[test]
    fn an_interrupted_answer_is_none_and_closes_its_sequence() {
        let request =
            AnswerRequest { prompt: &[1], end_of_sequence: &[], max_tokens: 9, sampling: Sampling::greedy() };
        let mut decoder = Decoder::new(NaiveVerifier::new(24, 1), NullDrafter);
        for _ in 0..200 {
            assert!(answer(&mut decoder, request, &|| true).unwrap().is_none());
        }
    }
}
