//! Greedy texts of the real model with `f32` weights, against those of an independent engine.

mod support;

use std::path::Path;

use serde_json::Value;
use support::load_real;
use upcycle_core::{Decoder, NullDrafter, Request, Session, TokenId};
use upcycle_cpu::{CpuVerifier, WeightStorage};

fn ids(value: &Value) -> Vec<TokenId> {
    let ids = value.as_array().expect("an array of ids");
    ids.iter().map(|id| u32::try_from(id.as_u64().expect("an id")).expect("an id")).collect()
}

#[test]
fn greedy_texts_equal_those_of_another_engine() -> Result<(), Box<dyn std::error::Error>> {
    let trace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/paper_trace.json");
    let trace: Value = serde_json::from_str(&std::fs::read_to_string(trace)?)?;
    let prompts = trace["prompts"].as_array().ok_or("no prompts")?;
    assert_eq!(prompts.len(), 10);

    let model = load_real(WeightStorage::F32);
    let mut decoder = Decoder::new(CpuVerifier::new(model), NullDrafter);
    let mut sessions = Vec::new();
    for prompt in prompts {
        let wanted = ids(&prompt["output_ids"]).len();
        sessions.push(decoder.open(&ids(&prompt["prompt_ids"]), Request::greedy(wanted))?);
    }
    // All ten side by side.
    while sessions.iter().any(|session| session.finish_reason().is_none()) {
        decoder.step(&mut sessions)?;
    }
    for (prompt, session) in prompts.iter().zip(&sessions) {
        assert_eq!(session.output(), ids(&prompt["output_ids"]), "question {}", prompt["question_id"]);
    }
    sessions.into_iter().for_each(|session: Session| drop(decoder.close(session)));
    Ok(())
}
