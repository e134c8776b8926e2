//! Speculative decoding with Token Recycling, independent of any backend: draft trees, the adjacency matrix, the acceptance
//! rule and the decoding loop. No tensors, no devices, no async, no unsafe code.
//!
//! The paper is Luo et al., "Turning Trash into Treasure: Accelerating Inference of Large Language Models with Token
//! Recycling", arXiv 2408.08696.
//!
//! In each step of the [`Decoder`]
//!
//! 1. a [`Drafter`] guesses a [`DraftTree`] of next tokens,
//! 2. a [`Verifier`], which is a backend, scores the whole tree in one pass,
//! 3. [`accept()`] keeps the longest path that the model would have generated itself,
//! 4. the verifier commits the KV of that path, and
//! 5. the drafter learns from every scored row.
//!
//! On a backend whose [`Verifier::row_tolerance`] is 0, drafts never change the text: it is that of plain decoding. On other
//! backends rounding can swap two nearly equal logits; [`margin`] says when that counts as rounding.
//!
//! ```
//! use upcycle_core::{AdjacencyMatrix, Decoder, NullDrafter, Request, TokenRecycling, TreeTemplate};
//! use upcycle_testkit::NaiveVerifier;
//!
//! let model = || NaiveVerifier::new(64, 1);
//! let matrix = AdjacencyMatrix::new(64, 8)?;
//! let mut fast = Decoder::new(model(), TokenRecycling::new(matrix, TreeTemplate::paper_80()));
//! let mut plain = Decoder::new(model(), NullDrafter);
//! let text: Result<Vec<_>, _> = fast.generate(&[1, 2, 3], Request::greedy(50))?.collect();
//! let same: Result<Vec<_>, _> = plain.generate(&[1, 2, 3], Request::greedy(50))?.collect();
//! assert_eq!(text?, same?);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

pub mod accept;
pub mod budget;
pub mod calibration;
pub mod clock;
pub mod cost;
pub mod decoder;
pub mod drafter;
pub mod file;
pub mod gumbel;
pub mod input;
pub mod logit_bias;
pub mod logprobs;
pub mod margin;
pub mod matrix;
pub mod mixed;
pub mod prompt_lookup;
pub mod recycling;
pub mod sampling;
mod sampling_error;
pub mod session;
pub mod snapshot;
pub mod stats;
pub mod template;
pub mod token;
pub mod top;
pub mod tree;
pub mod tree_limits;
pub mod tree_masks;
pub mod verifier;
pub mod warm_up;

pub use accept::{AcceptedPath, accept};
pub use budget::AutoBudget;
pub use calibration::{Calibration, Reliability};
pub use clock::{Clock, SystemClock};
pub use cost::{CostCurve, CostError};
pub use decoder::{DecodeError, Decoder, Generation, StepError, StepFailure, check_bias, check_prompt};
pub use drafter::{DraftContext, Drafter, Footprint, NullDrafter, Outcome, Phase};
pub use input::{RowLayout, RowSelection, TreeInput};
pub use logit_bias::LogitBias;
pub use logprobs::TokenLogprobs;
pub use margin::Margin;
pub use matrix::{AdjacencyMatrix, MatrixError};
pub use mixed::MixedDrafter;
pub use prompt_lookup::PromptLookup;
pub use recycling::TokenRecycling;
pub use sampling::{SampledToken, Sampler, Sampling, SamplingConfig, SamplingError};
pub use session::{FinishReason, Request, Session, StopRule};
pub use snapshot::{Fingerprint, SnapshotError};
pub use stats::{Stats, Times};
pub use template::{TemplateError, TemplateNode, TreeTemplate};
pub use token::{Row, SeqId, TokenId};
pub use top::{Candidates, TopK};
pub use tree::{DraftTree, NodeId};
pub use tree_limits::{PushError, TreeKind, TreeLimits};
pub use verifier::{
    AcceptedRows, Commit, Limits, Sequence, SequenceTable, Support, Verifier, VerifyError, check_commits,
};
