//! A drafter that records what it observes.

use std::path::Path;

use upcycle_core::{
    DraftContext, DraftTree, Drafter, Fingerprint, Footprint, Outcome, Phase, Row, RowSelection, SeqId,
    SnapshotError, TopK, TreeInput,
};

use super::record::Ranked;

/// Candidates per row in a trace, if the vocabulary has that many.
pub const SHOWN: usize = 8;

/// A drafter, and the model's ranking of the last pass.
///
/// It requests at least [`SHOWN`] candidates per row, but passes on only those that the inner drafter requests. So the inner
/// drafter sees the same as without recording.
#[derive(Debug)]
pub struct RecordingDrafter<D> {
    inner: D,
    last: Recording,
    /// The rows with the fewer candidates that the inner drafter requests.
    narrow: TopK,
}

/// The model's ranking in one pass.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recording {
    /// The nodes with scored rows, in order.
    pub nodes: Vec<usize>,
    /// Their candidates. Logits are rounded to a thousandth.
    pub ranked: Ranked,
}

impl<D: Drafter> RecordingDrafter<D> {
    /// Records what `inner` observes.
    pub fn new(inner: D) -> Self {
        let narrow = TopK::new(inner.k());
        Self { inner, last: Recording::default(), narrow }
    }

    /// The inner drafter.
    pub fn inner(&self) -> &D {
        &self.inner
    }

    /// The model's ranking in the last pass.
    pub fn last(&self) -> &Recording {
        &self.last
    }

    fn record(&mut self, outcome: &Outcome<'_>) {
        let Recording { nodes, ranked } = &mut self.last;
        nodes.clear();
        ranked.ids.clear();
        ranked.logits.clear();
        for (node, candidates) in outcome.rows_with_candidates() {
            nodes.push(node.index());
            ranked.width = candidates.ids.len();
            ranked.ids.extend_from_slice(candidates.ids);
            ranked.logits.extend(candidates.logits.iter().copied().map(thousandths));
        }
    }
}

/// `x` rounded to a thousandth, to keep the page small.
pub(super) fn thousandths(x: f32) -> f32 {
    ((f64::from(x) * 1000.0).round() / 1000.0) as f32
}

impl<D: Drafter> Drafter for RecordingDrafter<D> {
    fn draft(&mut self, context: DraftContext<'_>, tree: &mut DraftTree) {
        self.inner.draft(context, tree);
    }

    fn observe(&mut self, outcome: &Outcome<'_>) {
        self.record(outcome);
        if self.narrow.k() >= SHOWN {
            return self.inner.observe(outcome);
        }
        let rows = match outcome.phase {
            Phase::Prefill => self.inner.prompt_rows(),
            Phase::Decode => RowSelection::All,
        };
        // The rows hold the whole vocabulary if it is smaller than `SHOWN`.
        self.narrow
            .reset(&[TreeInput { seq: outcome.seq, tree: outcome.tree, rows }], self.last.ranked.width);
        for (node, candidates) in outcome.rows_with_candidates() {
            let Some(index) = self.narrow.index(Row { input: 0, node: node.index() }) else { continue };
            let (ids, logits) = self.narrow.candidates_mut(index);
            let width = ids.len();
            ids.copy_from_slice(&candidates.ids[..width]);
            logits.copy_from_slice(&candidates.logits[..width]);
        }
        self.inner.observe(&Outcome { top: &self.narrow, input: 0, ..*outcome });
    }

    fn drop_sequence(&mut self, seq: SeqId) {
        self.inner.drop_sequence(seq);
    }

    fn clear(&mut self) {
        self.inner.clear();
    }

    fn save(&self, path: &Path, fingerprint: &Fingerprint) -> Result<bool, SnapshotError> {
        self.inner.save(path, fingerprint)
    }

    fn load(&mut self, path: &Path, fingerprint: &Fingerprint) -> Result<bool, SnapshotError> {
        self.inner.load(path, fingerprint)
    }

    fn k(&self) -> usize {
        self.inner.k().max(SHOWN)
    }

    fn prompt_rows(&self) -> RowSelection {
        self.inner.prompt_rows()
    }

    fn footprint(&self) -> Footprint {
        self.inner.footprint()
    }

    fn sources(&self) -> Vec<&'static str> {
        self.inner.sources()
    }
}
