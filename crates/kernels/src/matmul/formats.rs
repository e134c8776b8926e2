//! The weight formats as types, so that each path has one kernel that is generic over them.

use crate::format::Format;
use crate::layout::{HEAD_BLOCKS, Layout};
use crate::pack;

/// A quantized format: the constants that its decoder needs.
pub(crate) trait Quantized {
    const FORMAT: Format;
    const QUANTS: usize = Layout::new(Self::FORMAT).quants;
    /// Bytes of a block.
    const BLOCK: usize = Layout::new(Self::FORMAT).block();
    /// Bytes of the head of eight blocks.
    const HEAD: usize = Layout::new(Self::FORMAT).head;
    const OFFSET: i32 = pack::offset(Self::FORMAT);
    const HAS_MIN: bool = matches!(Self::FORMAT, Format::Q4_1 | Format::Q5_1 | Format::Q4K | Format::Q5K);
    /// Low bits are in 2-bit fields, otherwise in nibbles or bytes.
    const HAS_FIELDS: bool = pack::has_fields(Self::FORMAT);
    /// The value of the highest bit, if masks hold it: 0 without masks.
    const TOP: u8 = pack::top(Self::FORMAT);
    /// The bytes before the masks.
    const MASKS: usize = pack::low_bytes(Self::FORMAT);
    const IS_BYTES: bool = matches!(Self::FORMAT, Format::Q8_0);
    /// Four bits choose a number of the table.
    const HAS_TABLE: bool = matches!(Self::FORMAT, Format::Iq4Nl | Format::Iq4Xs | Format::Mxfp4);
    const TABLE: [u8; 16] = pack::table(Self::FORMAT);
    /// The quants are signed bytes whose highest bit is flipped.
    const IS_SIGNED: bool = Self::OFFSET == 128;
    /// Each half of the columns has its own scale.
    const HAS_HALF_SCALES: bool = pack::has_half_scales(Self::FORMAT);
    /// Each half of the columns has its own minimum.
    const HAS_HALF_MINS: bool = pack::has_half_mins(Self::FORMAT);
    /// The head has minima.
    const HEAD_HAS_MIN: bool = Self::HAS_MIN || Self::HAS_HALF_MINS;
}

macro_rules! formats {
    ($($name:ident),*) => { $(
        #[derive(Debug)]
        pub(crate) struct $name;
        impl Quantized for $name {
            const FORMAT: Format = Format::$name;
        }
    )* };
}
mod names {
    use super::{Format, Quantized};
    formats!(Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4K, Q6K, Q2K, Q3K, Q5K, Iq4Nl, Iq4Xs, Mxfp4);
}
pub(crate) use names::{Iq4Nl, Iq4Xs, Mxfp4, Q2K, Q3K, Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0};

/// A format whose weights are floats.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(crate) trait Float {
    /// Bytes of a weight.
    const BYTES: usize;
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod float {
    use super::Float;

    macro_rules! floats {
        ($($name:ident: $bytes:literal),*) => { $(
            #[derive(Debug)]
            pub(crate) struct $name;
            impl Float for $name {
                const BYTES: usize = $bytes;
            }
        )* };
    }
    floats!(F16: 2, BF16: 2, F32: 4);
}
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(crate) use float::{BF16, F16, F32};

/// Whether a head stands before block `index`.
#[inline(always)]
pub(crate) fn has_head<F: Quantized>(index: usize) -> bool {
    F::HEAD > 0 && index.is_multiple_of(HEAD_BLOCKS)
}
