//! A custom drafter: it guesses that each token is followed by the token that the model ranked first last time. However wrong
//! it is, the text is that of plain decoding; `docs/adding-a-drafter.md` shows how to test that.
//!
//! `cargo run -p upcycle-core --example custom_drafter`

use std::collections::HashMap;

use upcycle_core::{
    Decoder, DraftContext, DraftTree, Drafter, NodeId, NullDrafter, Outcome, Request, TokenId,
};
use upcycle_testkit::NaiveVerifier; // use a backend's verifier here

#[derive(Default)]
struct LastSuccessor {
    next: HashMap<TokenId, TokenId>,
}

impl Drafter for LastSuccessor {
    fn draft(&mut self, _: DraftContext<'_>, tree: &mut DraftTree) {
        let (mut above, mut token) = (NodeId::ROOT, tree.tokens()[0]);
        while let Some(&next) = self.next.get(&token) {
            // The tree refuses nodes beyond its limits, which ends the loop.
            let Ok(node) = tree.push(above, next, None) else { break };
            (above, token) = (node, next);
        }
    }

    fn observe(&mut self, outcome: &Outcome<'_>) {
        for (node, best) in outcome.rows_with_candidates() {
            self.next.insert(outcome.tree.tokens()[node.index()], best.ids[0]);
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let model = NaiveVerifier::new(64, 1);
    let mut decoder = Decoder::new(model.clone(), LastSuccessor::default()).with_budget(8);
    let mut generation = decoder.generate(&[1, 2, 3], Request::greedy(300))?;
    let text = generation.by_ref().collect::<Result<Vec<TokenId>, _>>()?;
    println!("{} tokens, {:.2} tokens per step", text.len(), generation.stats().tokens_per_step());
    drop(generation);

    let mut plain = Decoder::new(model, NullDrafter);
    let plain = plain.generate(&[1, 2, 3], Request::greedy(300))?.collect::<Result<Vec<TokenId>, _>>()?;
    assert_eq!(text, plain, "the drafted text is the plain text");
    Ok(())
}

#[test]
fn it_runs() {
    main().unwrap();
}
