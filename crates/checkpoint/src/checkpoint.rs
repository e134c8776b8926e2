use crate::hyperparameters::Hyperparameters;
use crate::tensor_index::TensorIndex;

/// A model's files: its hyperparameters and where its tensors are.
#[derive(Debug)]
#[non_exhaustive]
pub struct Checkpoint {
    /// The hyperparameters.
    pub hyperparameters: Hyperparameters,
    /// The tensors.
    pub tensors: TensorIndex,
    /// Whether the head is the token embedding.
    pub tied: bool,
    /// Whether queries, keys and values have a bias.
    pub biased: bool,
}
