//! The sessions of a pass.

use crate::session::{PathCut, Session};

/// A session in the current pass.
#[derive(Debug)]
pub(super) struct ActiveSession<'a> {
    /// Its position among the sessions that the caller gave.
    pub(super) index: usize,
    /// The index of its tree among the inputs of the pass.
    pub(super) input: usize,
    /// What to keep and emit, once the paths are sampled.
    pub(super) cut: PathCut,
    pub(super) session: &'a mut Session,
}
