/// Why a graph of another exporter cannot be rewritten.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RewriteError {
    /// An unknown operator takes keys and values.
    #[error(
        "`{node}` takes keys and values, and its operator `{operator}` is unknown; expected GroupQueryAttention, \
         MultiHeadAttention, Attention, or attention in plain operators"
    )]
    Operator {
        /// The node.
        node: String,
        /// Its operator.
        operator: String,
    },
    /// There is no way to set positions.
    #[error("the graph has no `position_ids` input and does not derive positions from `attention_mask`")]
    Positions,
    /// There is no way to mask rows.
    #[error(
        "the rows of the graph cannot be masked: its mask was not found ({reason}), and it takes no `attention_mask`"
    )]
    NoMask {
        /// Why the mask was not found.
        reason: String,
    },
}
