//! The reference: ten prompts decoded by an independent implementation of the paper in another language and engine. The key `about`
//! of the fixture has the details.

use std::io::Read;
use std::path::PathBuf;

use flate2::read::GzDecoder;
use serde::Deserialize;

/// `tests/fixtures/paper_trace.json`: prompts and outputs.
#[derive(Debug, Deserialize)]
pub struct Trace {
    /// The SHA-256 of the model file.
    pub model_sha256: String,
    /// Candidates kept per token.
    pub k: usize,
    /// The longest output, in tokens.
    pub max_new: usize,
    /// The token that ends a text.
    pub eos_id: u32,
    /// Tokens emitted per step over all prompts.
    pub mean_accepted: f64,
    /// The prompts in order.
    pub prompts: Vec<Prompt>,
}

/// One prompt of the trace.
#[derive(Debug, Deserialize)]
pub struct Prompt {
    /// Its name.
    pub question_id: String,
    /// The user's message.
    pub prompt: String,
    /// The rendered prompt as tokens.
    pub prompt_ids: Vec<u32>,
    /// The output.
    pub output_ids: Vec<u32>,
    /// Tokens emitted in each step.
    pub accepted: Vec<u32>,
    /// The smallest gap between the best two logits along the output.
    pub min_margin: f64,
    /// Rows of the matrix after this prompt.
    pub matrix_rows_after: usize,
    /// The SHA-256 of those rows.
    pub matrix_digest: String,
}

/// A line of `tests/fixtures/paper_steps.jsonl.gz`: a tree and the model's predictions.
#[derive(Debug, Deserialize)]
pub struct ReferenceStep {
    /// The prompt.
    pub question_id: String,
    /// Its number within the prompt.
    pub step: usize,
    /// Tokens committed before it.
    pub prefix_len: usize,
    /// The tree's tokens, the root first.
    pub node_tokens: Vec<u32>,
    /// The tree's parents; -1 for the root.
    pub node_parents: Vec<i64>,
    /// The 8 best tokens after each node.
    pub node_top8: Vec<Vec<u32>>,
    /// The nodes of the accepted path.
    pub accepted_path: Vec<usize>,
    /// The sampled tokens along the path.
    pub emitted_untruncated: Vec<u32>,
}

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

/// Reads the trace.
///
/// # Panics
/// If the fixture is missing or invalid.
#[must_use]
pub fn trace() -> Trace {
    let text =
        std::fs::read_to_string(fixture("paper_trace.json")).expect("the fixture is in the repository");
    serde_json::from_str(&text).expect("a valid fixture")
}

/// Reads the steps, in order.
///
/// # Panics
/// If the fixture is missing or invalid.
#[must_use]
pub fn steps() -> Vec<ReferenceStep> {
    let file =
        std::fs::File::open(fixture("paper_steps.jsonl.gz")).expect("the fixture is in the repository");
    let mut text = String::new();
    GzDecoder::new(file).read_to_string(&mut text).expect("a valid fixture");
    text.lines().map(|line| serde_json::from_str(line).expect("a valid fixture")).collect()
}
