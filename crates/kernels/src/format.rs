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
    /// 2 bits; 4-bit scales and minima for 16 weights, which have a scale for 256.
    Q2K,
    /// 3 bits; 6-bit scales for 16 weights, which have a scale for 256.
    Q3K,
    /// 5 bits; otherwise as [`Q4K`](Self::Q4K).
    Q5K,
    /// 4 bits that choose one of sixteen numbers, a scale for 32 weights.
    Iq4Nl,
    /// As [`Iq4Nl`](Self::Iq4Nl), with 6-bit scales for 32 weights, which have a scale for 256.
    Iq4Xs,
    /// Numbers of 4 bits (E2M1), a power of two for 32 weights.
    Mxfp4,
    /// IEEE half precision.
    F16,
    /// bfloat16.
    BF16,
    /// IEEE single precision.
    F32,
}

impl Format {
    /// Every format.
    pub const ALL: [Format; 16] = [
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
        Format::Q2K,
        Format::Q3K,
        Format::Q5K,
        Format::Iq4Nl,
        Format::Iq4Xs,
        Format::Mxfp4,
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
            Format::Q2K => "Q2_K",
            Format::Q3K => "Q3_K",
            Format::Q5K => "Q5_K",
            Format::Iq4Nl => "IQ4_NL",
            Format::Iq4Xs => "IQ4_XS",
            Format::Mxfp4 => "MXFP4",
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
            Format::Iq4Nl | Format::Mxfp4 => 32,
            Format::Q2K | Format::Q3K | Format::Q4K | Format::Q5K | Format::Q6K | Format::Iq4Xs => 256,
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
            Format::Q2K => 16 + 64 + 4,
            Format::Q3K => 32 + 64 + 12 + 2,
            Format::Q5K => 4 + 12 + 32 + 128,
            Format::Iq4Nl => 2 + 16,
            Format::Iq4Xs => 2 + 2 + 4 + 128,
            Format::Mxfp4 => 1 + 16,
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
