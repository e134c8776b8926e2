//! The limits of the machine: how fast its memory is read, and how fast it multiplies int8. A pass of one row is bound by the first, a pass
//! of many rows by the second.

use std::hint::black_box;
use std::io;
use std::time::{Duration, Instant};

use memmap2::MmapMut;

use crate::kernels::Kernels;
use crate::prefetch;

/// Bytes that no cache holds.
const LARGE: usize = 1 << 30;

/// Bytes that a thread reads at a time.
const PART: usize = 1 << 20;

/// Readings, of which the fastest counts.
const READINGS: usize = 5;

fn fastest(count: usize, mut each: impl FnMut()) -> f64 {
    let times = (0..count).map(|_| {
        let start = Instant::now();
        each();
        start.elapsed()
    });
    times.min().unwrap_or(Duration::ZERO).as_secs_f64()
}

impl Kernels {
    /// Bytes a second that the threads together read of memory that is in no cache, on large pages and with prefetching, as the kernels
    /// read weights. Takes up to a second and 1 GiB of memory.
    ///
    /// # Errors
    /// If there is no memory.
    pub fn memory_bandwidth(&self) -> io::Result<f64> {
        let mut map = MmapMut::map_anon(LARGE)?;
        // A hint: without large pages, small ones work too.
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage);
        map.fill(1);
        let seconds = fastest(READINGS, || {
            self.pool().run(LARGE / PART, |task| {
                let part = &map[task * PART..][..PART];
                let sums = part.as_chunks::<64>().0.iter().fold([0_u64; 8], |mut sums, line| {
                    prefetch::ahead(line.as_ptr(), line.len());
                    for (sum, eight) in sums.iter_mut().zip(line.as_chunks::<8>().0) {
                        *sum = sum.wrapping_add(u64::from_ne_bytes(*eight));
                    }
                    sums
                });
                black_box(sums);
            });
        });
        Ok(LARGE as f64 / seconds)
    }

    /// Multiply-adds of int8 a second that the threads together reach with operands in registers alone. None where the kernels have no such
    /// instruction, or where it is not measured: only x86 is.
    #[must_use]
    pub fn int8_peak(&self) -> Option<f64> {
        #[cfg(target_arch = "x86_64")]
        return x86::int8_peak(self);
        #[cfg(not(target_arch = "x86_64"))]
        None
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;
    use std::hint::black_box;

    use super::fastest;
    use crate::isa::Isa;
    use crate::kernels::Kernels;

    const ROUNDS: usize = 100_000;

    /// Sums apart from each other, so that none waits for the one before it.
    const SUMS: usize = 12;

    /// Adds products of `ones` to `SUMS` sums, `ROUNDS` times each.
    macro_rules! sums {
        ($name:ident, $features:literal, $set:expr, $step:expr, $add:expr, $first:expr) => {
            #[target_feature(enable = $features)]
            fn $name(ones: i8) -> i32 {
                let x = $set(ones);
                let mut sums = [$set(0); SUMS];
                for _ in 0..ROUNDS {
                    sums.iter_mut().for_each(|sum| *sum = $step(*sum, x));
                }
                $first(sums.into_iter().fold(x, |a, b| $add(a, b)))
            }
        };
    }
    sums! {
        vnni512, "avx512f,avx512bw,avx512vnni", _mm512_set1_epi8, |sum, x| _mm512_dpbusd_epi32(sum, x, x),
        _mm512_add_epi32, |sum| _mm512_reduce_add_epi32(sum)
    }
    sums! {
        vnni256, "avx2,avxvnni", _mm256_set1_epi8, |sum, x| _mm256_dpbusd_avx_epi32(sum, x, x),
        _mm256_add_epi32, |sum| _mm256_extract_epi32::<0>(sum)
    }
    // A factor depends on the sum, because the compiler would move a constant product out of the loop.
    sums! {
        maddubs, "avx2", _mm256_set1_epi8, |sum, x| _mm256_add_epi16(sum, _mm256_maddubs_epi16(x, sum)),
        _mm256_add_epi32, |sum| _mm256_extract_epi32::<0>(sum)
    }

    pub(super) fn int8_peak(kernels: &Kernels) -> Option<f64> {
        let isa = kernels.path().isa();
        let lanes = match isa {
            Isa::Avx512Vnni => 64,
            Isa::AvxVnni | Isa::Avx2 => 32,
            Isa::Portable | Isa::NeonDot => return None,
        };
        let tasks = 4 * kernels.pool().threads();
        let seconds = fastest(9, || {
            kernels.pool().run(tasks, |_| {
                let ones = black_box(1);
                // SAFETY: a `KernelPath` proves that the processor has the instructions.
                black_box(unsafe {
                    match isa {
                        Isa::Avx512Vnni => vnni512(ones),
                        Isa::AvxVnni => vnni256(ones),
                        _ => maddubs(ones),
                    }
                });
            });
        });
        Some((tasks * ROUNDS * SUMS * lanes) as f64 / seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_positive() {
        let kernels = Kernels::new(2).unwrap();
        assert!(kernels.memory_bandwidth().unwrap() > 0.0);
        assert!(kernels.int8_peak().is_none_or(|peak| peak.is_finite() && peak > 0.0));
    }
}
