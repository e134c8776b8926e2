//! The layout of a tree-ready graph: names, shapes and metadata.
//!
//! A pass scores `n` rows after `past` committed ones and returns the logits of `m` of them:
//!
//! | input | type, shape | |
//! |---|---|---|
//! | `input_ids` | int64 `[n]` | tokens |
//! | `position_ids` | int64 `[n]` | absolute positions |
//! | `attn_bias` | f32 `[n, n]` | 0 where row `i` attends to row `j` of this pass, negative infinity elsewhere |
//! | `past_bias` | f32 `[past]` | 0 for a committed row, negative infinity for a placeholder |
//! | `output_rows` | int64 `[m]` | the rows whose logits are wanted |
//! | `past.L.key`, `past.L.value` | f32 `[past, kv_heads, head_dim]` | committed rows of layer `L` |
//!
//! | output | type, shape | |
//! |---|---|---|
//! | `logits` | f32 `[m, vocab]` | |
//! | `new.L.key`, `new.L.value` | f32 `[n, kv_heads, head_dim]` | the rows of this pass |
//!
//! The past has the sequence as its first dimension, so a prefix of a buffer can be the input. Only new rows are outputs. The mask
//! covers the rows of the pass only, so its size does not depend on the context. `past` is at least 1, because ONNX Runtime divides
//! by it: an empty sequence passes one placeholder row of zeros and masks it.

/// Tokens, int64 `[n]`.
pub const INPUT_IDS: &str = "input_ids";
/// Absolute positions, int64 `[n]`.
pub const POSITION_IDS: &str = "position_ids";
/// The mask between rows of the pass, f32 `[n, n]`.
pub const ATTN_BIAS: &str = "attn_bias";
/// The mask of the past, f32 `[past]`.
pub const PAST_BIAS: &str = "past_bias";
/// The rows whose logits are wanted, int64 `[m]`.
pub const OUTPUT_ROWS: &str = "output_rows";
/// The logits of the wanted rows, f32 `[m, vocab]`.
pub const LOGITS: &str = "logits";

/// The metadata key with the longest context.
pub const MAX_CONTEXT: &str = "upcycle.max_context";
/// The metadata key with the reason why a graph scores chains only. A graph without it scores trees.
pub const CHAIN_ONLY: &str = "upcycle.chain_only";
/// The metadata key with the type of the weights: `f32`, `f16`, `int8` or `int4`; or `half` if the graph also computes in half
/// precision.
pub const WEIGHTS: &str = "upcycle.weights";

/// The file of the graph in an exported folder.
pub const MODEL_FILE: &str = "model.onnx";
/// The file of the weights beside it.
pub const DATA_FILE: &str = "model.onnx.data";

/// Keys or values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvPart {
    /// Keys.
    Key,
    /// Values.
    Value,
}

impl KvPart {
    /// Keys, then values.
    pub const ALL: [KvPart; 2] = [KvPart::Key, KvPart::Value];

    pub(crate) fn name(self) -> &'static str {
        match self {
            KvPart::Key => "key",
            KvPart::Value => "value",
        }
    }

    /// The input with the committed rows of a layer, f32 `[past, kv_heads, head_dim]`.
    #[must_use]
    pub fn past_name(self, layer: usize) -> String {
        format!("past.{layer}.{}", self.name())
    }

    /// The output with a layer's rows of this pass, f32 `[n, kv_heads, head_dim]`.
    #[must_use]
    pub fn new_name(self, layer: usize) -> String {
        format!("new.{layer}.{}", self.name())
    }
}
