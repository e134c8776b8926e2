//! Products of a packed matrix with a few activation rows.

/// Runs a path's kernels, generic over format and number of rows, on a tile: on as many rows at a time as it names counts for,
/// since every part decodes the weights once more.
///
/// A macro, so that the kernels' functions stand in one with the path's target features.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! tile_by_format {
    (
        ($matrix:ident, $x:ident, $tile:ident, $first:ident, $out:ident),
        $quantized:ident, $floats:ident, [$($count:literal),*], $most:literal
    ) => {{
        let (quants, scales) = $matrix.tile($tile);
        for (start, end) in $crate::product::parts($out.len(), $most) {
            let (rows, from) = (&mut $out[start..end], $first + start);
            // SAFETY: the features are the caller's promise; the tile is the matrix's own, whose packing laid out `cols / 32`
            // blocks (or `cols` columns) of this format, and `x` has as many columns.
            unsafe {
                tile_by_format!(@formats $matrix, (quants, scales, $x, from, rows), end - start, [$($count),*], $most,
                    $quantized: Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q4K Q6K, $floats: F16 BF16 F32)
            }
        }
    }};
    (
        @formats $matrix:ident, $arguments:tt, $rows:expr, $counts:tt, $most:literal,
        $quantized:ident: $($bits:ident)*, $floats:ident: $($number:ident)*
    ) => {
        match $matrix.format() {
            $($crate::Format::$bits =>
                tile_by_format!(@rows $rows, $quantized, $bits, $arguments, $counts, $most),)*
            $($crate::Format::$number =>
                tile_by_format!(@rows $rows, $floats, $number, $arguments, $counts, $most),)*
        }
    };
    (@rows $rows:expr, $kernel:ident, $kind:ident, $arguments:tt, [$($count:literal),*], $most:literal) => {
        match $rows {
            $($count => tile_by_format!(@call $kernel, $kind, $count, $arguments),)*
            _ => tile_by_format!(@call $kernel, $kind, $most, $arguments),
        }
    };
    (@call $kernel:ident, $kind:ident, $count:literal, ($($argument:expr),*)) => {
        $kernel::<$crate::product::$kind, $count>($($argument),*)
    };
}

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
