//! Weights are fetched before they are needed.
//!
//! The processor's own prefetchers end at every page and begin anew with every tile, and arithmetic on several rows leaves
//! the reordering of instructions little room to run ahead: on two cores of a Zen 4 with AVX-512 VNNI t(8)/t(1) of a 135M
//! model is 1.8 without these hints, and 1.5 with them.

use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};

use super::Quantized;
use crate::matrix::BLOCK;

/// How far ahead, in bytes: beyond the tiles that the other threads are at. 3 to 16 KiB measure alike; 1 KiB is no help.
const AHEAD: usize = 8192;

/// Fetches the `len` bytes that come [`AHEAD`] bytes after `at`, which need not exist.
#[inline(always)]
pub(super) fn ahead(at: *const u8, len: usize) {
    for line in 0..len.div_ceil(64) {
        // SAFETY: a prefetch is a hint that reads nothing and faults on no address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(AHEAD + line * 64).cast()) };
    }
}

/// Fetches what comes [`AHEAD`] bytes after block `index` of a tile and after its scales. As tiles follow each other, with
/// quants before scales, that is every byte once.
#[inline(always)]
pub(super) fn block<F: Quantized>(quants: *const u8, scales: *const u8, index: usize) {
    ahead(quants.wrapping_add(index * F::QUANTS), F::QUANTS);
    if (index * BLOCK).is_multiple_of(F::UNIT) {
        ahead(scales.wrapping_add(index * BLOCK / F::UNIT * F::SCALES), F::SCALES);
    }
}
