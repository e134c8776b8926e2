//! A source that copies the continuation of the longest suffix match in a corpus.

use std::sync::Arc;

use crate::mixed::corpus::Corpus;
use crate::mixed::match_bins::{BINS, Continuation, match_prior, propose_best};
use crate::mixed::source::{CandidateSource, PredictionContext, Proposals};

/// The shortest match that is used. In a large corpus almost every pair of tokens occurs somewhere. With an unrelated corpus,
/// pairs lost 1.6 % of the tokens per step and triples 0.7 %. With a corpus that contains the answers, both gain.
const MIN_MATCH: usize = 3;
/// The most positions compared for one prediction.
const MAX_COMPARED: usize = 32;
/// Continuations proposed.
const PROPOSED: usize = 4;

/// Proposes the continuations of the longest suffix matches in a [`Corpus`].
#[derive(Clone, Debug)]
pub struct CorpusMatcher {
    corpus: Arc<Corpus>,
}

impl CorpusMatcher {
    /// Copies from `corpus`.
    #[must_use]
    pub fn new(corpus: Arc<Corpus>) -> Self {
        Self { corpus }
    }
}

impl CandidateSource for CorpusMatcher {
    fn name(&self) -> &'static str {
        "corpus"
    }

    fn propose(&self, context: PredictionContext<'_>, proposals: &mut Proposals) {
        let matches = self.corpus.find(context.recent);
        let mut found = [Continuation::default(); MAX_COMPARED];
        let (mut len, mut remaining) = (0, MAX_COMPARED);
        // The range of a length contains the ranges of greater lengths, which were compared already.
        let mut longer = 0..0;
        for match_len in (MIN_MATCH..=matches.longest).rev() {
            if remaining == 0 || len >= PROPOSED {
                break;
            }
            let all = matches.at_least(match_len);
            if longer.is_empty() {
                longer = all.start..all.start;
            }
            let exact = (all.start..longer.start).chain(longer.end..all.end);
            let count = all.len() - longer.len();
            let first = len;
            // If there are too many, compares an evenly spaced sample.
            for index in exact.step_by(count.div_ceil(remaining).max(1)) {
                let token = self.corpus.next(index);
                match found[..len].iter().position(|found| found.token == token) {
                    // It followed a longer match already.
                    Some(known) if known < first => {}
                    Some(known) => found[known].matches += 1,
                    None => {
                        found[len] = Continuation { token, match_len, matches: 1, all_matches: 0 };
                        len += 1;
                    }
                }
                remaining -= 1;
            }
            let all_matches = found[first..len].iter().map(|found| found.matches).sum();
            found[first..len].iter_mut().for_each(|found| found.all_matches = all_matches);
            longer = all;
        }
        propose_best(&mut found[..len], PROPOSED, proposals);
    }

    fn confidence_bins(&self) -> usize {
        BINS
    }

    fn prior_hit_rate(&self, confidence_bin: u8) -> f32 {
        // Chosen by hand, below those of the suffix matcher: in a large corpus short matches are often coincidences.
        let by_length = [0.05, 0.15, 0.3, 0.45, 0.55, 0.7, 0.8, 0.9];
        match_prior(confidence_bin, by_length, [1.0, 1.1, 0.8, 0.5], [0.1, 0.05, 0.1 / 3.0])
    }

    fn bytes(&self) -> usize {
        self.corpus.bytes()
    }
}
