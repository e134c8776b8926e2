use super::error::ExportError;

/// How to export a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExportOptions {
    /// The type of the weights.
    pub weights: WeightType,
    /// Weights that share a scale, for [`WeightType::Int8`] and [`WeightType::Int4`]: 16, 32, 64, 128 or 256. With 32, `Q4_0`, `Q4_1` and
    /// `Q4_K` convert to `int4`, and `Q8_0` to `int8`, without further loss.
    pub block: usize,
}

impl Default for ExportOptions {
    fn default() -> Self {
        Self { weights: WeightType::F32, block: 32 }
    }
}

impl ExportOptions {
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

/// The type of an exported model's weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WeightType {
    /// `f32`: lossless, four bytes a weight.
    F32,
    /// Half precision on disk, widened to `f32` when the model is loaded.
    F16,
    /// Blocks of 8-bit weights with a scale each. Activations are rounded to 8 bits too.
    Int8,
    /// Blocks of 4-bit weights with a scale each. Activations are rounded to 8 bits. The head keeps 8 bits unless the model's file
    /// has 4.
    Int4,
}

impl WeightType {
    /// All of them.
    pub const ALL: [WeightType; 4] = [WeightType::F32, WeightType::F16, WeightType::Int8, WeightType::Int4];

    /// The name: `f32`, `f16`, `int8` or `int4`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            WeightType::F32 => "f32",
            WeightType::F16 => "f16",
            WeightType::Int8 => "int8",
            WeightType::Int4 => "int4",
        }
    }
}
