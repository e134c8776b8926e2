//! Prefetching memory.
//!
//! The processor's own prefetchers stop at every page and start anew at every tile, and arithmetic on several rows keeps out-of-order
//! execution from running ahead. On two cores of a Zen 4 with AVX-512 VNNI, t(8)/t(1) of a 135M model is 1.8 without hints for weights and
//! 1.5 with them.

/// How far ahead weights are prefetched, in bytes. 3 to 16 KiB are equally fast; 1 KiB does not help.
pub(crate) const AHEAD: usize = 8192;

/// Prefetches the cache line at `at`, which need not exist.
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

/// Prefetches all of `data`.
#[inline(always)]
pub(crate) fn slice<T>(data: &[T]) {
    for offset in (0..size_of_val(data)).step_by(64) {
        line(data.as_ptr().cast::<u8>().wrapping_add(offset));
    }
}

/// Prefetches the `len` bytes that come [`AHEAD`] bytes after `at`. They need not exist.
#[inline(always)]
pub(crate) fn ahead(at: *const u8, len: usize) {
    for index in 0..len.div_ceil(64) {
        line(at.wrapping_add(AHEAD + index * 64));
    }
}
