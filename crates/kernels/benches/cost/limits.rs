//! The limits of the machine: its memory, its instructions, and how near products come to either.

use std::hint::black_box;
use std::time::{Duration, Instant};

use memmap2::MmapMut;
use upcycle_kernels::{Activations, Format, Isa, Kernels, Matmul, Matrix, Store};

use crate::{matrix, median};

/// Bytes that no cache holds.
const LARGE: usize = 1 << 30;

/// What the threads together read of memory that is in no cache, in bytes a second: on large pages, and asked for ahead, as the
/// kernels read weights.
pub(super) fn bandwidth(kernels: &Kernels) -> f64 {
    const PART: usize = 1 << 20;
    let mut map = MmapMut::map_anon(LARGE).expect("memory");
    // A hint: where there are no large pages, small ones do.
    #[cfg(target_os = "linux")]
    let _ = map.advise(memmap2::Advice::HugePage);
    map.fill(1);
    let mut times: Vec<Duration> = (0..5)
        .map(|_| {
            let start = Instant::now();
            kernels.pool().run(LARGE / PART, |task| {
                let part = &map[task * PART..][..PART];
                let sums = part.chunks_exact(64).fold([0_u64; 8], |mut sums, line| {
                    ask(line.as_ptr().wrapping_add(8192));
                    for (sum, eight) in sums.iter_mut().zip(line.chunks_exact(8)) {
                        *sum = sum.wrapping_add(u64::from_ne_bytes(eight.try_into().expect("eight bytes")));
                    }
                    sums
                });
                black_box(sums);
            });
            start.elapsed()
        })
        .collect();
    LARGE as f64 / median(&mut times)
}

/// Asks for the cache line of `at`, which need not exist.
fn ask(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    #[expect(unsafe_code, reason = "a hint to the processor")]
    // SAFETY: a prefetch reads nothing and faults on no address.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(at.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// Multiply-adds of int8 a second that the path's instruction for them gives, of registers alone.
#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "instructions that a path stands for")]
pub(super) fn ceiling(kernels: &Kernels) -> Option<f64> {
    use std::arch::x86_64::*;

    const ROUNDS: usize = 100_000;
    /// Sums apart from each other, so that none waits for the one before it.
    const SUMS: usize = 12;

    /// Adds up products of `ones` in `SUMS` sums, `ROUNDS` times each.
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
    // What is multiplied depends on the sum, or else the product would be taken out of the loop.
    sums! {
        maddubs, "avx2", _mm256_set1_epi8, |sum, x| _mm256_add_epi16(sum, _mm256_maddubs_epi16(x, sum)),
        _mm256_add_epi32, |sum| _mm256_extract_epi32::<0>(sum)
    }
    let isa = kernels.path().isa();
    let (lanes, tasks) = (if isa == Isa::Avx512Vnni { 64 } else { 32 }, 4 * kernels.pool().threads());
    let mut times: Vec<Duration> = (0..9)
        .map(|_| {
            let start = Instant::now();
            kernels.pool().run(tasks, |_| {
                let ones = black_box(1);
                // SAFETY: a path is only made for instructions that the processor has.
                black_box(unsafe {
                    match isa {
                        Isa::Avx512Vnni => vnni512(ones),
                        Isa::AvxVnni => vnni256(ones),
                        Isa::Avx2 => maddubs(ones),
                        _ => 0,
                    }
                });
            });
            start.elapsed()
        })
        .collect();
    let known = matches!(isa, Isa::Avx512Vnni | Isa::AvxVnni | Isa::Avx2);
    known.then(|| (tasks * ROUNDS * SUMS * lanes) as f64 / median(&mut times))
}

#[cfg(not(target_arch = "x86_64"))]
pub(super) fn ceiling(_: &Kernels) -> Option<f64> {
    None
}

/// Multiply-adds a second of a matrix that stays in the cache, many rows at a time: the most that these kernels do.
pub(super) fn peak(kernels: &Kernels, format: Format) -> f64 {
    let matrix = matrix(format, 256, 1024);
    let (mut x, mut out) = (Activations::new(), vec![0.0; 64 * 256]);
    kernels.load(&vec![0.5; 64 * 1024], 1024, &mut x, format.is_quantized());
    let mut times: Vec<Duration> = (0..200)
        .map(|_| {
            let start = Instant::now();
            kernels.multiply(&x, &mut [Matmul { matrix: &matrix, out: &mut out, store: Store::Set }]);
            start.elapsed()
        })
        .collect();
    (64 * 256 * 1024) as f64 / median(&mut times)
}

/// One row through matrices that together fit no cache: the share of the memory's bandwidth that a product reaches.
pub(super) fn one_row(kernels: &Kernels, memory: f64) {
    let one = matrix(Format::Q4_1, 8192, 2048);
    let count = LARGE / one.bytes();
    let matrices: Vec<Matrix> = (0..count).map(|_| matrix(Format::Q4_1, 8192, 2048)).collect();
    let (mut x, mut out) = (Activations::new(), vec![0.0; 8192]);
    kernels.load(&[0.5; 2048], 2048, &mut x, true);
    let mut times = Vec::new();
    for matrix in matrices.iter().chain(&matrices) {
        let start = Instant::now();
        kernels.multiply(&x, &mut [Matmul { matrix, out: &mut out, store: Store::Set }]);
        times.push(start.elapsed());
    }
    let rate = matrices[0].bytes() as f64 / median(&mut times);
    println!(
        "one row, 8192 x 2048 Q4_1: {:.1} GB/s, {:.0} % of the memory's",
        rate / 1e9,
        rate / memory * 100.0
    );
}
