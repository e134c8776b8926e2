//! One prompt answered, with a tape of its trees; and the same answered again from the tape, to see its rows.

use std::collections::VecDeque;

use upcycle_core::{
    Context, DecodeError, Decoder, DraftTree, Drafter, NodeId, NullDrafter, Request, Row, RowSelection,
    Sampling, Session, Stats, TokenId, Verifier,
};

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask<'a> {
    pub(crate) prompt: &'a [TokenId],
    pub(crate) end_of_sequence: &'a [TokenId],
    pub(crate) max_tokens: usize,
    pub(crate) sampling: Sampling,
}

impl Ask<'_> {
    fn request(&self, max_tokens: usize) -> Request {
        Request {
            sampling: self.sampling,
            end_of_sequence: self.end_of_sequence.to_vec(),
            ..Request::greedy(max_tokens)
        }
    }
}

/// The answer, and what it took.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) tokens: Vec<TokenId>,
    pub(crate) stats: Stats,
    /// The tree of each step that drafted.
    pub(crate) tape: Vec<Taped>,
}

/// The nodes of a tree behind its root: parent and token of each.
pub(crate) type Taped = Vec<(u32, TokenId)>;

/// Answers with what `decoder` drafts; none if it was `interrupted`.
pub(crate) fn answer<V: Verifier, D: Drafter>(
    decoder: &mut Decoder<V, D>,
    ask: Ask<'_>,
    interrupted: &dyn Fn() -> bool,
) -> Result<Option<Answer>, DecodeError> {
    let mut session = [decoder.open(ask.prompt, ask.request(ask.max_tokens))?];
    let mut tape = Vec::new();
    let done = loop {
        if session[0].finish_reason().is_some() {
            break Ok(true);
        }
        if interrupted() {
            break Ok(false);
        }
        let steps = session[0].stats().steps();
        if let Err(error) = decoder.step_one(&mut session[0]) {
            break Err(error);
        }
        if session[0].stats().steps() > steps {
            let tree = session[0].tree();
            tape.push(tree.nodes().skip(1).map(|node| taped(tree, node)).collect());
        }
    };
    let [session] = session;
    let tokens = session.output().to_vec();
    let stats = decoder.close(session);
    Ok(done?.then_some(Answer { tokens, stats, tape }))
}

fn taped(tree: &DraftTree, node: NodeId) -> (u32, TokenId) {
    (tree.parents()[node.index()], tree.tokens()[node.index()])
}

/// The row, `[vocab]`, that the token at `at` of the answer is drawn from in plain decoding.
pub(crate) fn plain_row<V: Verifier>(verifier: V, ask: Ask<'_>, at: usize) -> Result<Vec<f32>, DecodeError> {
    row(Decoder::new(verifier, NullDrafter), ask, at)
}

/// The same in the passes of a tape, that is, as the answer was found when it was measured.
pub(crate) fn taped_row<V: Verifier>(
    verifier: V,
    ask: Ask<'_>,
    (tape, prompt_rows): (&[Taped], RowSelection),
    at: usize,
) -> Result<Vec<f32>, DecodeError> {
    row(Decoder::new(verifier, Player { tape: tape.iter().cloned().collect(), prompt_rows }), ask, at)
}

fn row<V: Verifier, D: Drafter>(
    mut decoder: Decoder<V, D>,
    ask: Ask<'_>,
    at: usize,
) -> Result<Vec<f32>, DecodeError> {
    let mut session = [decoder.open(ask.prompt, ask.request(ask.max_tokens))?];
    let mut before = 0;
    let found = loop {
        if session[0].output().len() > at {
            let row = Row { input: 0, node: drawn_at(&session[0], at - before) };
            break decoder.verifier_mut().logits(row).map(<[f32]>::to_vec).map_err(DecodeError::from);
        }
        if session[0].finish_reason().is_some() {
            // It ended sooner this time: there is no such row.
            break Ok(Vec::new());
        }
        before = session[0].output().len();
        if let Err(error) = decoder.step_one(&mut session[0]) {
            break Err(error);
        }
    };
    let [session] = session;
    decoder.close(session);
    found
}

/// The node whose row the `index`-th token of the last step was drawn from.
fn drawn_at(session: &Session, index: usize) -> usize {
    let walk = session.accepted_path();
    // A prompt's chunk draws from its last row alone.
    let skipped = walk.nodes.len() - walk.sampled.len().min(walk.nodes.len());
    walk.nodes.get(skipped + index).map_or(0, |node| node.index())
}

/// Drafts what is on a tape.
struct Player {
    tape: VecDeque<Taped>,
    prompt_rows: RowSelection,
}

impl Drafter for Player {
    fn draft(&mut self, _: Context<'_>, tree: &mut DraftTree) {
        for (parent, token) in self.tape.pop_front().unwrap_or_default() {
            // What does not fit now did not fit then.
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
        fn a_tape_gives_the_rows_of_plain_decoding_at_every_place(
            seed in 0_u64..200,
            at in 0_usize..24,
            warm in any::<bool>(),
        ) {
            let config = SamplingConfig { temperature: if warm { 0.7 } else { 0.0 }, seed, ..SamplingConfig::default() };
            let ask = Ask {
                prompt: &[1, 2, 3, 4],
                end_of_sequence: &[],
                max_tokens: 24,
                sampling: Sampling::new(config).unwrap(),
            };
            let model = || NaiveVerifier::new(24, seed);
            let recycling = TokenRecycling::new(AdjacencyMatrix::new(24, 4).unwrap(), TreeTemplate::paper_80());
            let mut decoder = Decoder::new(model(), recycling).with_budget(12);
            // Twice, so that the matrix is warm and trees differ from those of a cold one.
            answer(&mut decoder, ask, &|| false).unwrap();
            let answer = answer(&mut decoder, ask, &|| false).unwrap().unwrap();
            prop_assert!(answer.tape.iter().any(|tree| tree.len() > 3));
            let plain = plain_row(model(), ask, at).unwrap();
            let taped = taped_row(model(), ask, (&answer.tape, RowSelection::Last), at).unwrap();
            prop_assert_eq!(plain.len(), 24);
            prop_assert_eq!(&plain, &taped);
            let before = [ask.prompt, &answer.tokens[..at]].concat();
            let drawn = upcycle_core::Sampler::new(ask.sampling).sample(&plain, before.len(), &before).token;
            prop_assert_eq!(drawn, answer.tokens[at]);
        }
    }

    #[test]
    fn an_interrupted_answer_is_none_and_leaves_no_sequence_open() {
        let ask = Ask { prompt: &[1], end_of_sequence: &[], max_tokens: 9, sampling: Sampling::greedy() };
        let mut decoder = Decoder::new(NaiveVerifier::new(24, 1), NullDrafter);
        for _ in 0..200 {
            assert!(answer(&mut decoder, ask, &|| true).unwrap().is_none());
        }
    }
}
