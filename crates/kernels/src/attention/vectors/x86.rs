//! Vectors of x86-64.

use std::arch::x86_64::*;

use crate::attention::vectors::pages::{Vector, pages};

impl Vector for __m512 {
    const LANES: usize = 16;
    #[inline(always)]
    fn parts(_: usize) -> usize {
        4
    }
    #[inline(always)]
    fn columns(_: usize) -> usize {
        4
    }
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        // SAFETY: the caller's promise, here and below.
        unsafe { _mm512_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(at: *const f32) -> Self {
        // SAFETY: as above.
        unsafe { _mm512_loadu_ps(at) }
    }
    #[inline(always)]
    unsafe fn load_half(at: *const half::f16) -> Self {
        // SAFETY: as above.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(at.cast())) }
    }
    #[inline(always)]
    unsafe fn store(self, at: *mut f32) {
        // SAFETY: as above.
        unsafe { _mm512_storeu_ps(at, self) }
    }
    #[inline(always)]
    unsafe fn plus_product(self, a: Self, b: Self) -> Self {
        // SAFETY: as above.
        unsafe { _mm512_fmadd_ps(a, b, self) }
    }
    #[inline(always)]
    unsafe fn plus(self, other: Self) -> Self {
        // SAFETY: as above.
        unsafe { _mm512_add_ps(self, other) }
    }
}

impl Vector for __m256 {
    const LANES: usize = 8;
    #[inline(always)]
    fn parts(queries: usize) -> usize {
        match queries {
            1 => 4,
            2 | 3 => 2,
            _ => 1,
        }
    }
    #[inline(always)]
    fn columns(queries: usize) -> usize {
        match queries {
            1 => 8,
            2 | 3 => 4,
            _ => 2,
        }
    }
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        // SAFETY: the caller's promise, here and below.
        unsafe { _mm256_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(at: *const f32) -> Self {
        // SAFETY: as above.
        unsafe { _mm256_loadu_ps(at) }
    }
    #[inline(always)]
    unsafe fn load_half(at: *const half::f16) -> Self {
        // SAFETY: as above.
        unsafe { _mm256_cvtph_ps(_mm_loadu_si128(at.cast())) }
    }
    #[inline(always)]
    unsafe fn store(self, at: *mut f32) {
        // SAFETY: as above.
        unsafe { _mm256_storeu_ps(at, self) }
    }
    #[inline(always)]
    unsafe fn plus_product(self, a: Self, b: Self) -> Self {
        // SAFETY: as above.
        unsafe { _mm256_fmadd_ps(a, b, self) }
    }
    #[inline(always)]
    unsafe fn plus(self, other: Self) -> Self {
        // SAFETY: as above.
        unsafe { _mm256_add_ps(self, other) }
    }
}

pages! {
    avx512, "avx512f,avx512vl,f16c,fma", std::arch::x86_64::__m512, 1
}

pages! {
    avx2, "avx2,fma,f16c", std::arch::x86_64::__m256, 2
}
