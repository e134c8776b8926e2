//! Recycled rows: the model's own ranking after the last one, two or three tokens.

use super::source::{Place, Proposals, Scored, Source};
use crate::matrix::softmax;
use crate::{AdjacencyMatrix, Candidates, TokenId};

/// Candidates of a row.
pub const WIDTH: usize = 8;

/// Scores are told apart in this many steps.
const SCORES: [u8; 7] = [5, 15, 38, 77, 128, 184, 235];

/// A ranking that the model gave, and how it held so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct RowScores {
    /// Softmax over the row's own candidates, in 255ths.
    scores: [u8; WIDTH],
    /// How often in a row the best candidate stayed the best when the row was refreshed, up to 3.
    steady: u8,
}

impl RowScores {
    const VACANT: Self = Self { scores: [0; WIDTH], steady: 0 };

    fn refresh(&mut self, candidates: &Candidates<'_>, same_best: bool) {
        self.scores = [0; WIDTH];
        softmax(&candidates.logits[..candidates.logits.len().min(WIDTH)], &mut self.scores);
        self.steady = steadier(self.steady, same_best);
    }
}

/// Rank, score and steadiness in one byte.
fn grade(rank: usize, score: u8, steady: u8) -> u8 {
    let score = SCORES.partition_point(|&step| step <= score);
    ((rank.min(7) << 5) | (score << 2)) as u8 | steady
}

/// How often in a row the best candidate stayed the best, up to 3, when it was `steady` times before.
fn steadier(steady: u8, same_best: bool) -> u8 {
    if same_best { (steady + 1).min(3) } else { 0 }
}

/// The share of best candidates that come true, by score: those of a row whose best has just changed, and those of a
/// row whose best has stayed the same three times. Measured on a small model, then smoothed.
const NEW_BEST: [f32; 8] = [0.03, 0.04, 0.07, 0.13, 0.2, 0.31, 0.47, 0.62];
const STEADY_BEST: [f32; 8] = [0.1, 0.15, 0.25, 0.5, 0.68, 0.82, 0.88, 0.93];
/// The same for all further candidates.
const OTHERS: [f32; 8] = [0.012, 0.02, 0.04, 0.12, 0.22, 0.3, 0.4, 0.4];

/// What a grade of a row is worth before anything was seen; `trust` is the row's, against that of an average key.
fn prior(grade: u8, trust: f32) -> f32 {
    let score = usize::from((grade >> 2) & 7);
    let share = match grade >> 5 {
        0 => NEW_BEST[score] + (STEADY_BEST[score] - NEW_BEST[score]) * f32::from(grade & 3) / 3.0,
        _ => OTHERS[score],
    };
    (share * trust).clamp(0.004, 0.97)
}

/// Rows keyed by the last token: the paper's adjacency matrix, with the scores that rank alone does not tell.
#[derive(Clone, Debug)]
pub struct AdjacencySource {
    matrix: AdjacencyMatrix,
    /// How often in a row each row's best candidate stayed the best, up to 3.
    steady: Vec<u8>,
}

/// The scores of a row of which they are not known, as one of a matrix that a template has drafted from.
const TYPICAL: [u8; WIDTH] = [140, 40, 20, 14, 10, 8, 7, 6];
/// How steady a row is held to be that comes with scores: neither new nor proven.
const FROM_ELSEWHERE: u8 = 1;

/// Whether a row has scores: that of its best candidate is never 0 then.
fn are_known(scores: &[u8]) -> bool {
    scores.first().is_some_and(|&score| score > 0)
}

impl AdjacencySource {
    /// A source over `matrix`, of whose rows the first eight candidates count.
    #[must_use]
    pub fn new(matrix: AdjacencyMatrix) -> Self {
        let steady = (0..matrix.vocab() as TokenId)
            .map(|token| if are_known(matrix.scores(token)) { FROM_ELSEWHERE } else { 0 })
            .collect();
        Self { matrix, steady }
    }
}

impl Source for AdjacencySource {
    fn name(&self) -> &'static str {
        "recycling"
    }

    fn propose(&self, place: Place<'_>, proposals: &mut Proposals) {
        let Some(&token) = place.recent.last() else { return };
        let scores = self.matrix.scores(token);
        let known = are_known(scores);
        let steady = self.steady.get(token as usize).copied().unwrap_or(0);
        for (rank, candidate) in self.matrix.row(token).take(WIDTH).enumerate() {
            let score = if known { scores[rank] } else { TYPICAL[rank] };
            proposals.push(candidate, grade(rank, score, steady));
        }
    }

    fn grades(&self) -> usize {
        256
    }

    fn prior(&self, grade: u8) -> f32 {
        prior(grade, 0.85)
    }

    fn trust(&self) -> f32 {
        0.6
    }

    fn observe(&mut self, scored: Scored<'_>) {
        let tokens = scored.outcome().tree.tokens();
        for (node, candidates) in scored.rows() {
            let token = tokens[node.index()];
            let same = self.matrix.candidate(token, 0) == candidates.ids.first().copied();
            self.matrix.update_scored(token, &candidates);
            if let Some(steady) = self.steady.get_mut(token as usize) {
                *steady = steadier(*steady, same);
            }
        }
    }

    fn clear(&mut self) {
        self.matrix.clear();
        self.steady.fill(0);
    }

    fn matrix(&self) -> Option<&AdjacencyMatrix> {
        Some(&self.matrix)
    }

    fn set_matrix(&mut self, matrix: AdjacencyMatrix) {
        *self = Self::new(matrix);
    }

    fn bytes(&self) -> usize {
        self.matrix.bytes() + self.steady.len()
    }
}

/// Rows of one set, among which the least recently written gives way.
const WAYS: usize = 4;

#[derive(Clone, Copy, Debug)]
struct HashedRow {
    /// 0 is vacant.
    tag: u32,
    written: u32,
    tokens: [TokenId; WIDTH],
    len: u8,
    scores: RowScores,
}

impl HashedRow {
    const VACANT: Self = Self { tag: 0, written: 0, tokens: [0; WIDTH], len: 0, scores: RowScores::VACANT };
}

/// Rows keyed by a hash of the last two or three tokens, in a table of fixed size.
///
/// Two keys share a row with a chance of about 2^-30: a draft is then wrong, never the text.
#[derive(Clone, Debug)]
pub struct NgramCache {
    order: usize,
    rows: Vec<HashedRow>,
    clock: u32,
}

impl NgramCache {
    /// A table keyed by the last `order` tokens (2 or 3) that takes at most `bytes` (and at least one set of rows).
    #[must_use]
    pub fn new(order: usize, bytes: usize) -> Self {
        let sets = (bytes / (WAYS * size_of::<HashedRow>())).max(1);
        let sets = if sets.is_power_of_two() { sets } else { sets.next_power_of_two() / 2 };
        Self { order: order.clamp(2, 3), rows: vec![HashedRow::VACANT; sets * WAYS], clock: 0 }
    }

    /// The first row of the key's set, and its tag; none for a text shorter than the key.
    fn key(&self, recent: &[TokenId]) -> Option<(usize, u32)> {
        let start = recent.len().checked_sub(self.order)?;
        let hash = recent[start..].iter().fold(0x9E37_79B9_7F4A_7C15_u64, |hash, &token| {
            (hash ^ u64::from(token)).wrapping_mul(0xD6E8_FEB8_6659_FD93).rotate_left(29)
        });
        let hash = (hash ^ (hash >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
        let set = hash as usize & (self.rows.len() / WAYS - 1);
        Some((set * WAYS, (hash >> 32) as u32 | 1))
    }

    fn find(&self, recent: &[TokenId]) -> Option<&HashedRow> {
        let (first, tag) = self.key(recent)?;
        self.rows[first..first + WAYS].iter().find(|row| row.tag == tag)
    }
}

impl Source for NgramCache {
    fn name(&self) -> &'static str {
        if self.order == 2 { "bigram" } else { "trigram" }
    }

    fn propose(&self, place: Place<'_>, proposals: &mut Proposals) {
        let Some(row) = self.find(place.recent) else { return };
        for (rank, &token) in row.tokens[..usize::from(row.len)].iter().enumerate() {
            proposals.push(token, grade(rank, row.scores.scores[rank], row.scores.steady));
        }
    }

    fn grades(&self) -> usize {
        256
    }

    fn prior(&self, grade: u8) -> f32 {
        prior(grade, if self.order == 2 { 1.0 } else { 1.06 })
    }

    fn observe(&mut self, scored: Scored<'_>) {
        let mut window = [0; super::source::WINDOW];
        for (node, candidates) in scored.rows() {
            let place = scored.place(node, &mut window);
            let Some((first, tag)) = self.key(place.recent) else { continue };
            self.clock = self.clock.wrapping_add(1);
            let set = &mut self.rows[first..first + WAYS];
            let clock = self.clock;
            let Some(row) = set
                .iter_mut()
                .max_by_key(|row| (row.tag == tag, row.tag == 0, clock.wrapping_sub(row.written)))
            else {
                continue;
            };
            let same = row.tag == tag && row.tokens.first() == candidates.ids.first();
            row.tag = tag;
            row.written = clock;
            row.len = candidates.ids.len().min(WIDTH) as u8;
            row.tokens[..usize::from(row.len)].copy_from_slice(&candidates.ids[..usize::from(row.len)]);
            row.scores.refresh(&candidates, same);
        }
    }

    fn clear(&mut self) {
        self.rows.fill(HashedRow::VACANT);
    }

    fn bytes(&self) -> usize {
        size_of_val(&self.rows[..])
    }
}
