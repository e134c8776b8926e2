use crate::layout::KvPart;
use crate::schema::Element;

/// The mask input that Optimum-style graphs have and tree-ready graphs lack.
pub const ATTENTION_MASK: &str = "attention_mask";

/// The input with the committed rows of a layer, `[batch, kv_heads, past, head_dim]`.
#[must_use]
pub fn past_name(part: KvPart, layer: usize) -> String {
    format!("past_key_values.{layer}.{}", part.name())
}

/// The output with all rows of a layer, `[batch, kv_heads, past + rows, head_dim]`.
#[must_use]
pub fn present_name(part: KvPart, layer: usize) -> String {
    format!("present.{layer}.{}", part.name())
}

/// The inputs and outputs of an Optimum-style graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptimumInterface {
    /// Layers with keys and values.
    pub layers: usize,
    /// Heads of keys and values.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Tokens in the vocabulary.
    pub vocab: usize,
    /// The type of keys and values: `f32` or half precision.
    pub cache: Element,
    /// Whether positions are an input.
    pub positions: bool,
    /// The longest context.
    pub max_context: usize,
}

impl OptimumInterface {
    /// Whether a value is the past of a layer.
    pub(super) fn is_past(&self, name: &str) -> bool {
        (0..self.layers).any(|layer| KvPart::ALL.iter().any(|&part| past_name(part, layer) == name))
    }
}
