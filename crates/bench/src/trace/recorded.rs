//! A drafter that lets others see what it was told.

use std::path::Path;

use upcycle_core::{
    Context, DraftTree, Drafter, Fingerprint, Footprint, Outcome, Phase, Row, RowSelection, SeqId,
    SnapshotError, TopK, TreeInput,
};

use super::Ranked;

/// Candidates of each row that a trace shows, where the vocabulary has that many.
pub const SHOWN: usize = 8;

/// A drafter, and what the model said of the last pass.
///
/// It asks for at least [`SHOWN`] candidates of each row, and passes on what the drafter asks for: the drafter sees
/// what it would see on its own.
#[derive(Debug)]
pub struct Recorded<D> {
    inner: D,
    last: Recording,
    /// The rows as the drafter asks for them, where it asks for fewer candidates.
    narrow: TopK,
}

/// What the model ranked in a pass.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recording {
    /// The nodes whose rows were scored, rising.
    pub nodes: Vec<usize>,
    /// Their candidates; logits to a thousandth.
    pub ranked: Ranked,
}

impl<D: Drafter> Recorded<D> {
    /// `inner`, watched.
    pub fn new(inner: D) -> Self {
        let narrow = TopK::new(inner.k());
        Self { inner, last: Recording::default(), narrow }
    }

    /// The drafter.
    pub fn inner(&self) -> &D {
        &self.inner
    }

    /// What the model ranked in the last pass.
    pub fn last(&self) -> &Recording {
        &self.last
    }

    fn record(&mut self, outcome: &Outcome<'_>) {
        let Recording { nodes, ranked } = &mut self.last;
        nodes.clear();
        ranked.ids.clear();
        ranked.logits.clear();
        for (node, candidates) in outcome.scored() {
            nodes.push(node.index());
            ranked.width = candidates.ids.len();
            ranked.ids.extend_from_slice(candidates.ids);
            ranked.logits.extend(candidates.logits.iter().copied().map(thousandths));
        }
    }
}

/// `x`, rounded to a thousandth: what is shown, in fewer digits.
pub(super) fn thousandths(x: f32) -> f32 {
    ((f64::from(x) * 1000.0).round() / 1000.0) as f32
}

impl<D: Drafter> Drafter for Recorded<D> {
    fn draft(&mut self, context: Context<'_>, tree: &mut DraftTree) {
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
        // The rows hold the whole vocabulary where it is smaller than what is shown.
        self.narrow
            .restart(&[TreeInput { seq: outcome.seq, tree: outcome.tree, rows }], self.last.ranked.width);
        for (node, candidates) in outcome.scored() {
            let Some(index) = self.narrow.index(Row { input: 0, node: node.index() }) else { continue };
            let (ids, logits) = self.narrow.slots(index);
            let width = ids.len();
            ids.copy_from_slice(&candidates.ids[..width]);
            logits.copy_from_slice(&candidates.logits[..width]);
        }
        self.inner.observe(&Outcome { top: &self.narrow, input: 0, ..*outcome });
    }

    fn forget(&mut self, seq: SeqId) {
        self.inner.forget(seq);
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
