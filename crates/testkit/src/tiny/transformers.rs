//! Tiny models whose logits `transformers` has computed (`transformers/logits.py` of this crate).

use std::path::Path;

use serde_json::Value;
use upcycle_core::TokenId;

use super::{Scaling, Tiny};

/// The models, by name: every family, scaling and kind of window.
#[must_use]
pub fn cases() -> Vec<(&'static str, Tiny)> {
    let tiny = |architecture| Tiny { architecture, ..Tiny::default() };
    let window = |architecture, first| Tiny { window: Some((6, first)), ..tiny(architecture) };
    // Heads that are wider than the width divided by their number.
    let qwen3 = Tiny { head: Some(32), ..tiny("qwen3") };
    vec![
        ("llama", tiny("llama")),
        ("llama-linear", Tiny { scaling: Scaling::Linear, untied: true, ..tiny("llama") }),
        ("llama-llama3", Tiny { scaling: Scaling::Llama3, ..tiny("llama") }),
        ("llama-yarn", Tiny { scaling: Scaling::Yarn, head: Some(32), ..tiny("llama") }),
        ("mistral-window", window("mistral", 0)),
        ("qwen2", tiny("qwen2")),
        ("qwen2-yarn", Tiny { scaling: Scaling::Yarn, untied: true, ..tiny("qwen2") }),
        ("qwen2-window", window("qwen2", 1)),
        ("qwen3", qwen3.clone()),
        ("qwen3-untied", Tiny { untied: true, kv_heads: 4, ..qwen3 }),
    ]
}

/// The text that was scored: longer than the windows, and than the contexts before scaling.
#[must_use]
pub fn text() -> Vec<TokenId> {
    (0..40).map(|i| i * 37 % 91).collect()
}

/// The largest difference between `found`, the logits of every row of the [text] by the model `name`, and those of `transformers`.
///
/// # Panics
/// If the file of logits is missing or of other models or another text, or `found` has another shape.
#[must_use]
pub fn largest_difference(name: &str, found: &[Vec<f32>]) -> f32 {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("transformers/logits.json");
    let json = std::fs::read_to_string(file).expect("the file is in the repository");
    let json: Value = serde_json::from_str(&json).expect("the file is JSON");
    assert_eq!(json["text"], serde_json::json!(text()), "another text: run logits.py again");
    assert_eq!(
        json["models"].as_object().map(serde_json::Map::len),
        Some(cases().len()),
        "run logits.py again"
    );
    let rows = json["models"][name].as_object().expect("rows by number");
    let each = rows.iter().map(|(row, expected)| {
        let expected: Vec<f32> = serde_json::from_value(expected.clone()).expect("numbers");
        super::difference(&found[row.parse::<usize>().expect("a row")], &expected)
    });
    each.fold(0.0, f32::max)
}
