//! Matrix products of a packed matrix with a few activation rows.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod by_format;
mod formats;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;

#[cfg(target_arch = "aarch64")]
pub(crate) use neon::halves;

pub(crate) use by_format::parts;

use crate::activations::Activations;
use crate::isa::{Isa, KernelPath};
use crate::layout::TileOut;
use crate::matrix::Matrix;

/// Computes tile `tile` of `matrix` times the rows of `x` from `first` on into `out`, `[rows][16]`.
///
/// An output is a sum over blocks of 32 columns in rising order, with one fused multiply-add a block (two if the format has minima) of an
/// exact integer dot product. Nothing depends on the number of rows, the row's index or the instruction set.
pub(crate) fn matmul_tile(
    path: KernelPath,
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
    assert!(first + out.len() <= x.n(), "the rows exist");
    assert!(
        !matrix.format().is_quantized() || x.is_quantized(),
        "a quantized matrix takes quantized activations"
    );
    match path.isa() {
        // SAFETY: a `KernelPath` proves that the processor has the instructions.
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
