//! A verifier that goes from decoder to decoder: all arms of a setup share one loaded model, each with a decoder of its
//! own, since what a decoder learns must stay with its arm.

use upcycle_core::{Commit, Limits, Row, SeqId, TopK, TreeInput, Verifier, VerifyError};

/// A place for a verifier. While nobody sits there, every call but `limits` fails.
pub(super) struct Seat {
    verifier: Option<Box<dyn Verifier>>,
    limits: Limits,
}

impl Seat {
    /// An empty one, with the limits of the verifier that will sit there.
    pub(super) fn empty(limits: Limits) -> Self {
        Self { verifier: None, limits }
    }

    pub(super) fn sit(&mut self, verifier: Box<dyn Verifier>) {
        self.verifier = Some(verifier);
    }

    pub(super) fn rise(&mut self) -> Option<Box<dyn Verifier>> {
        self.verifier.take()
    }

    fn get(&mut self) -> Result<&mut Box<dyn Verifier>, VerifyError> {
        self.verifier.as_mut().ok_or_else(|| {
            VerifyError::backend("benchmark", "find its model", "another arm holds the model at this moment")
        })
    }
}

impl Verifier for Seat {
    fn limits(&self) -> &Limits {
        &self.limits
    }
    fn open(&mut self) -> Result<SeqId, VerifyError> {
        self.get()?.open()
    }
    fn close(&mut self, seq: SeqId) {
        if let Some(verifier) = &mut self.verifier {
            verifier.close(seq);
        }
    }
    fn forward(&mut self, steps: &[TreeInput<'_>], top: &mut TopK) -> Result<(), VerifyError> {
        self.get()?.forward(steps, top)
    }
    fn logits(&mut self, row: Row) -> Result<&[f32], VerifyError> {
        self.get()?.logits(row)
    }
    fn commit(&mut self, commits: &[Commit<'_>]) -> Result<(), VerifyError> {
        self.get()?.commit(commits)
    }
    fn truncate(&mut self, seq: SeqId, len: usize) -> Result<(), VerifyError> {
        self.get()?.truncate(seq, len)
    }
}
