//! Products of a packed matrix with a few activation rows.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;

#[cfg(target_arch = "aarch64")]
pub(crate) use neon::halves;

use crate::matrix::TILE;
use crate::{Activations, Format, Isa, Matrix, Path};

/// The products of one tile: for each activation row its 16 outputs.
pub(crate) type TileOut = [[f32; TILE]];

/// Computes tile `tile` of `matrix` times the rows of `x` from `first` on into `out`, `[rows][16]`.
///
/// A row's outputs are sums over blocks of 32 columns in rising order, one fused multiply-add each (two where the format
/// has minima), of exact integer dot products: nothing depends on `n`, on the row's place, or on the path.
pub(crate) fn product_tile(
    path: Path,
    matrix: &Matrix,
    x: &Activations,
    tile: usize,
    first: usize,
    out: &mut TileOut,
) {
    assert_eq!(
        x.cols(),
        matrix.cols(),
        "activations of {} columns for a matrix of {}",
        x.cols(),
        matrix.cols()
    );
    assert!(first + out.len() <= x.n(), "rows of the activations");
    assert!(
        !matrix.format().is_quantized() || x.is_quantized(),
        "a quantized matrix takes quantized activations"
    );
    match path.isa() {
        // SAFETY: a `Path` is only made for instructions that the processor has.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Vnni => unsafe { avx512::tile(matrix, x, tile, first, out) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::AvxVnni => unsafe { avx2::tile_vnni(matrix, x, tile, first, out) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { avx2::tile(matrix, x, tile, first, out) },
        // SAFETY: as above.
        #[cfg(target_arch = "aarch64")]
        Isa::NeonDot => unsafe { neon::tile(matrix, x, tile, first, out) },
        _ => portable::tile(matrix, x, tile, first, out),
    }
}

/// Splits `n` rows into the fewest equal parts of at most `most`: every part decodes the weights once more.
pub(crate) fn parts(n: usize, most: usize) -> impl Iterator<Item = (usize, usize)> {
    let count = n.div_ceil(most);
    (0..count).map(move |part| (part * n / count, (part + 1) * n / count))
}

/// What a format's decoder must know, as constants, so that each path has one kernel generic over it.
pub(crate) trait Quantized {
    const FORMAT: Format;
    const QUANTS: usize = crate::matrix::Layout::of(Self::FORMAT).quants;
    const SCALES: usize = crate::matrix::Layout::of(Self::FORMAT).scales;
    const UNIT: usize = crate::matrix::Layout::of(Self::FORMAT).unit;
    const OFFSET: i32 = crate::pack::offset(Self::FORMAT);
    const HAS_MIN: bool = matches!(Self::FORMAT, Format::Q4_1 | Format::Q5_1 | Format::Q4K);
    const HAS_FIFTH: bool = matches!(Self::FORMAT, Format::Q5_0 | Format::Q5_1);
    const IS_BYTES: bool = matches!(Self::FORMAT, Format::Q8_0);
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
    formats!(Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4K, Q6K);
}
pub(crate) use names::{Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q6K, Q8_0};
