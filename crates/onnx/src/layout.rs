//! The tree-ready graph: names, shapes and metadata of what [`schema`](crate::schema) carries.
//!
//! A pass scores `n` rows behind `past` committed ones and answers for `m` of them:
//!
//! | input | type, shape | |
//! |---|---|---|
//! | `input_ids` | int64 `[n]` | tokens |
//! | `position_ids` | int64 `[n]` | absolute positions |
//! | `attn_bias` | f32 `[n, n]` | 0 where row `i` attends to row `j` of this pass, negative infinity elsewhere |
//! | `past_bias` | f32 `[past]` | 0 for a committed row, negative infinity for one that stands in for none |
//! | `output_rows` | int64 `[m]` | the rows that pass the head |
//! | `past.L.key`, `past.L.value` | f32 `[past, kv_heads, head]` | committed rows of layer `L` |
//!
//! | output | type, shape | |
//! |---|---|---|
//! | `logits` | f32 `[m, vocab]` | |
//! | `new.L.key`, `new.L.value` | f32 `[n, kv_heads, head]` | the rows of this pass |
//!
//! The past is sequence first, so that a prefix of one buffer is the input; only new rows come out. The mask covers the
//! rows of the pass alone, so that what the host writes for a pass does not grow with the context. `past` is at least 1,
//! because the runtime's products divide by it: an empty sequence gives one row of zeros and masks it.

/// Tokens, int64 `[n]`.
pub const INPUT_IDS: &str = "input_ids";
/// Absolute positions, int64 `[n]`.
pub const POSITION_IDS: &str = "position_ids";
/// What rows of the pass see of each other, f32 `[n, n]`.
pub const ATTN_BIAS: &str = "attn_bias";
/// Which rows of the past count, f32 `[past]`.
pub const PAST_BIAS: &str = "past_bias";
/// The rows that pass the head, int64 `[m]`.
pub const OUTPUT_ROWS: &str = "output_rows";
/// The logits of these rows, f32 `[m, vocab]`.
pub const LOGITS: &str = "logits";

/// The key of the model's metadata under which the longest context stands.
pub const MAX_CONTEXT: &str = "upcycle.max_context";
/// The key of the model's metadata that says why a graph cannot score trees, but chains alone; a graph without it scores trees.
pub const CHAIN_ONLY: &str = "upcycle.chain_only";
/// The key of the model's metadata that tells how weights are held: `f32`, `f16`, `int8` or `int4`; or `half`, where the graph
/// computes in half precision too.
pub const WEIGHTS: &str = "upcycle.weights";

/// The file of the graph in an exported folder.
pub const MODEL_FILE: &str = "model.onnx";
/// The file of the weights beside it.
pub const DATA_FILE: &str = "model.onnx.data";

/// One of the two things that are cached of each row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Keys.
    Key,
    /// Values.
    Value,
}

impl Part {
    /// Both, keys first.
    pub const ALL: [Part; 2] = [Part::Key, Part::Value];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Part::Key => "key",
            Part::Value => "value",
        }
    }

    /// The input with the committed rows of a layer, f32 `[past, kv_heads, head]`.
    #[must_use]
    pub fn past_name(self, layer: usize) -> String {
        format!("past.{layer}.{}", self.name())
    }

    /// The output with a layer's rows of this pass, f32 `[n, kv_heads, head]`.
    #[must_use]
    pub fn new_name(self, layer: usize) -> String {
        format!("new.{layer}.{}", self.name())
    }
}
