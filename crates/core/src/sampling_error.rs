//! The error of a sampling setting.

/// A sampling setting that is out of range.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{name} = {found} is out of range: {expected}")]
pub struct SamplingError {
    /// The setting.
    pub name: &'static str,
    /// Its value.
    pub found: f32,
    /// The range.
    pub expected: &'static str,
}
