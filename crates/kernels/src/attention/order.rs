//! The order of sums that all paths share.

/// Partial sums of a score: part i sums dimensions i, i + 4, i + 8, ...
pub(super) const PARTS: usize = 4;
