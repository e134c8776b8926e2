//! Draft trees grown best first from the predictions of several sources.
//!
//! A [`CandidateSource`] predicts one token after a context. The [`MixedDrafter`] asks all its sources, merges their
//! proposals into candidates with calibrated probabilities, and grows the tree from the most probable path:
//!
//! | source | predicts from |
//! |---|---|
//! | [`AdjacencySource`] | the model's ranking after the last token (the paper's matrix) |
//! | [`NgramCache`] | the model's ranking after the last two or three tokens |
//! | [`SuffixMatcher`] | the longest earlier match of the text's end, in the text itself |
//! | [`CorpusMatcher`] | the longest match of the text's end in a corpus |
//! | [`FrequentTokens`] | the most frequent tokens |
//! | [`TopKHistory`] | the tokens that the model ranked high a few tokens ago |

mod adjacency;
mod corpus;
mod corpus_matcher;
mod drafter;
mod frequent_tokens;
mod match_bins;
mod mixer;
mod ngram_cache;
mod ranking_bins;
mod source;
mod suffix_matcher;
mod top_k_history;

pub use adjacency::AdjacencySource;
pub use corpus::{Corpus, CorpusBuilder};
pub use corpus_matcher::CorpusMatcher;
pub use drafter::MixedDrafter;
pub use frequent_tokens::FrequentTokens;
pub use ngram_cache::NgramCache;
pub use ranking_bins::RANKING_LEN;
pub use source::{
    CandidateSource, MAX_CONTEXT_TOKENS, MAX_SOURCES, PredictionContext, Proposals, rows_to_learn,
};
pub use suffix_matcher::SuffixMatcher;
pub use top_k_history::TopKHistory;
