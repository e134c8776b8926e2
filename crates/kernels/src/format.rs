//! The weight formats: their blocks in a GGUF file.

/// How a tensor's weights are stored. Names and blocks are those of GGML.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// 4 bits, a scale for 32 weights.
    Q4_0,
    /// 4 bits, a scale and a minimum for 32 weights.
    Q4_1,
    /// 5 bits, a scale for 32 weights.
    Q5_0,
    /// 5 bits, a scale and a minimum for 32 weights.
    Q5_1,
    /// 8 bits, a scale for 32 weights.
    Q8_0,
    /// 4 bits; 6-bit scales and minima for 32 weights, which have a scale for 256.
    Q4K,
    /// 6 bits; 8-bit scales for 16 weights, which have a scale for 256.
    Q6K,
    /// IEEE half precision.
    F16,
    /// bfloat16.
    BF16,
    /// IEEE single precision.
    F32,
}

impl Format {
    /// Every format.
    pub const ALL: [Format; 10] = [
        Format::Q4_0,
        Format::Q4_1,
        Format::Q5_0,
        Format::Q5_1,
        Format::Q8_0,
        Format::Q4K,
        Format::Q6K,
        Format::F16,
        Format::BF16,
        Format::F32,
    ];

    /// GGML's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Format::Q4_0 => "Q4_0",
            Format::Q4_1 => "Q4_1",
            Format::Q5_0 => "Q5_0",
            Format::Q5_1 => "Q5_1",
            Format::Q8_0 => "Q8_0",
            Format::Q4K => "Q4_K",
            Format::Q6K => "Q6_K",
            Format::F16 => "F16",
            Format::BF16 => "BF16",
            Format::F32 => "F32",
        }
    }

    /// Elements of a block; a row holds whole blocks.
    #[must_use]
    pub fn block(self) -> usize {
        match self {
            Format::Q4_0 | Format::Q4_1 | Format::Q5_0 | Format::Q5_1 | Format::Q8_0 => 32,
            Format::Q4K | Format::Q6K => 256,
            Format::F16 | Format::BF16 | Format::F32 => 1,
        }
    }

    /// Bytes of a block.
    #[must_use]
    pub fn block_bytes(self) -> usize {
        match self {
            Format::Q4_0 => 2 + 16,
            Format::Q4_1 => 4 + 16,
            Format::Q5_0 => 2 + 4 + 16,
            Format::Q5_1 => 4 + 4 + 16,
            Format::Q8_0 => 2 + 32,
            Format::Q4K => 4 + 12 + 128,
            Format::Q6K => 128 + 64 + 16 + 2,
            Format::F16 | Format::BF16 => 2,
            Format::F32 => 4,
        }
    }

    /// Whether activations are quantized to int8 for it. Otherwise they stay f32.
    #[must_use]
    pub fn is_quantized(self) -> bool {
        !matches!(self, Format::F16 | Format::BF16 | Format::F32)
    }
}
