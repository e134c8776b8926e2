//! Choosing the kernel for a format and a number of rows.

/// Splits `n` rows into the fewest parts of at most `most` rows, of equal size: each part decodes the weights again.
pub(crate) fn parts(n: usize, most: usize) -> impl Iterator<Item = (usize, usize)> {
    let count = n.div_ceil(most);
    (0..count).map(move |part| (part * n / count, (part + 1) * n / count))
}

/// Runs an instruction set's kernels on a tile, for the matrix's format and as many rows at a time as possible. The kernels are generic over
/// the format and the number of rows.
///
/// A macro, so that the kernels are called from a function with the instruction set's target features.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! tile_by_format {
    (
        ($matrix:ident, $x:ident, $tile:ident, $first:ident, $out:ident),
        $quantized:ident, $floats:ident, [$($count:literal),*], $most:literal
    ) => {{
        let bytes = $matrix.tile($tile);
        for (start, end) in $crate::matmul::by_format::parts($out.len(), $most) {
            let (rows, from) = (&mut $out[start..end], $first + start);
            // SAFETY: the features are the caller's promise; the tile is the matrix's own, whose packing laid out `cols / 32`
            // blocks (or `cols` columns) of this format, and `x` has as many columns.
            unsafe {
                tile_by_format!(@formats $matrix, (bytes, $x, from, rows), end - start, [$($count),*], $most,
                    $quantized: Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q4K Q6K Q2K Q3K Q5K Iq4Nl Iq4Xs Mxfp4, $floats: F16 BF16 F32)
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
        $kernel::<$crate::matmul::formats::$kind, $count>($($argument),*)
    };
}
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(crate) use tile_by_format;
