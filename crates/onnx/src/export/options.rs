//! What is asked of an export.

use crate::export::ExportError;

/// How a model is exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// How weights are held.
    pub weights: Weights,
    /// Weights that share a scale, for [`Weights::Int8`] and [`Weights::Int4`]: 16, 32, 64, 128 or 256. With 32, `Q4_0`,
    /// `Q4_1` and `Q4_K` go over to `int4`, and `Q8_0` to `int8`, without a second loss.
    pub block: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { weights: Weights::F32, block: 32 }
    }
}

impl Options {
    /// Checks the options.
    pub(crate) fn check(self) -> Result<(), ExportError> {
        if !(16..=256).contains(&self.block) || !self.block.is_power_of_two() {
            return Err(ExportError::Option {
                option: "block",
                found: self.block.to_string(),
                expected: "16, 32, 64, 128 or 256",
            });
        }
        Ok(())
    }
}

/// How the weights of an exported model are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Weights {
    /// `f32`: nothing is lost, four bytes a weight.
    F32,
    /// Half precision on the disk; widened when the model is loaded, so that a pass computes in `f32`.
    F16,
    /// Eight bits in blocks with a scale each, and activations rounded to eight bits too.
    Int8,
    /// Four bits in blocks with a scale each, and activations rounded to eight bits. The head keeps eight bits unless the
    /// file has four.
    Int4,
}

impl Weights {
    /// All of them.
    pub const ALL: [Weights; 4] = [Weights::F32, Weights::F16, Weights::Int8, Weights::Int4];

    /// Its name: `f32`, `f16`, `int8` or `int4`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Weights::F32 => "f32",
            Weights::F16 => "f16",
            Weights::Int8 => "int8",
            Weights::Int4 => "int4",
        }
    }
}
