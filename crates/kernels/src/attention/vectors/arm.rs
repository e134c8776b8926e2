//! Vectors of AArch64.

use std::arch::aarch64::*;

use crate::attention::vectors::pages::{Vector, pages};
use crate::matmul::halves;

impl Vector for float32x4_t {
    const LANES: usize = 4;
    #[inline(always)]
    fn parts(queries: usize) -> usize {
        if queries < 3 { 2 } else { 1 }
    }
    #[inline(always)]
    fn columns(queries: usize) -> usize {
        if queries == 1 { 8 } else { 4 }
    }
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        // SAFETY: the caller's promise, here and below.
        unsafe { vdupq_n_f32(x) }
    }
    #[inline(always)]
    unsafe fn load(at: *const f32) -> Self {
        // SAFETY: as above.
        unsafe { vld1q_f32(at) }
    }
    #[inline(always)]
    unsafe fn load_half(at: *const half::f16) -> Self {
        // SAFETY: as above.
        unsafe { halves(at.cast()) }
    }
    #[inline(always)]
    unsafe fn store(self, at: *mut f32) {
        // SAFETY: as above.
        unsafe { vst1q_f32(at, self) }
    }
    #[inline(always)]
    unsafe fn plus_product(self, a: Self, b: Self) -> Self {
        // SAFETY: as above.
        unsafe { vfmaq_f32(self, a, b) }
    }
    #[inline(always)]
    unsafe fn plus(self, other: Self) -> Self {
        // SAFETY: as above.
        unsafe { vaddq_f32(self, other) }
    }
}

pages! {
    neon, "neon", std::arch::aarch64::float32x4_t, 4
}
