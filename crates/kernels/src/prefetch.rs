//! Memory is fetched before it is needed.
//!
//! The processor's own prefetchers end at every page and begin anew with every tile, and arithmetic on several rows leaves
//! the reordering of instructions little room to run ahead: on two cores of a Zen 4 with AVX-512 VNNI t(8)/t(1) of a 135M
//! model is 1.8 without hints for weights, and 1.5 with them.

use crate::matrix::BLOCK;
use crate::product::Quantized;

/// How far ahead weights are fetched, in bytes. 3 to 16 KiB measure alike; 1 KiB is no help.
const AHEAD: usize = 8192;

/// Asks for the cache line of `at`, which need not exist.
#[inline(always)]
fn line(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch is a hint that reads nothing and faults on no address.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(at.cast());
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above.
    unsafe {
        std::arch::asm!("prfm pldl1keep, [{at}]", at = in(reg) at, options(nostack, readonly, preserves_flags));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = at;
}

/// Fetches all of `data`.
#[inline(always)]
pub(crate) fn slice<T>(data: &[T]) {
    for offset in (0..size_of_val(data)).step_by(64) {
        line(data.as_ptr().cast::<u8>().wrapping_add(offset));
    }
}

/// Fetches the `len` bytes that come [`AHEAD`] bytes after `at`, which need not exist.
#[inline(always)]
pub(crate) fn ahead(at: *const u8, len: usize) {
    for index in 0..len.div_ceil(64) {
        line(at.wrapping_add(AHEAD + index * 64));
    }
}

/// Fetches what comes [`AHEAD`] bytes after block `index` of a tile and after its scales. As tiles follow each other, with
/// quants before scales, that is every byte once.
#[inline(always)]
pub(crate) fn block<F: Quantized>(quants: *const u8, scales: *const u8, index: usize) {
    ahead(quants.wrapping_add(index * F::QUANTS), F::QUANTS);
    if (index * BLOCK).is_multiple_of(F::UNIT) {
        ahead(scales.wrapping_add(index * BLOCK / F::UNIT * F::SCALES), F::SCALES);
    }
}
