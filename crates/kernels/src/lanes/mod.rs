//! Plain Rust that the compiler turns into vector code, once for each instruction set. Sums have sixteen lanes in a fixed order, so every
//! instruction set gives the same bits.

mod exp;

pub(crate) use exp::{exp, silu};

/// Lanes of every vectorized loop. A sum runs over the lanes by index, and then in halves.
pub(crate) const LANES: usize = 16;

/// The sum of all lanes, in halves.
#[inline(always)]
pub(crate) fn sum(mut lanes: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// The highest of all lanes, ignoring NaN.
#[inline(always)]
pub(crate) fn max(mut lanes: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            let (a, b) = (lanes[lane], lanes[lane + width]);
            lanes[lane] = if b > a || a.is_nan() { b } else { a };
        }
        width /= 2;
    }
    lanes[0]
}

/// Declares a function whose body is compiled once for each instruction set. A first argument `path`, a
/// [`KernelPath`](crate::isa::KernelPath), picks the one that runs.
macro_rules! dispatch {
    ($(#[$doc:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$doc])*
        $vis fn $name(path: $crate::isa::KernelPath, $($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            fn body($($arg: $ty),*) $(-> $ret)? $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2,fma,f16c")]
            fn avx512($($arg: $ty),*) $(-> $ret)? { body($($arg),*) }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c")]
            fn avx2($($arg: $ty),*) $(-> $ret)? { body($($arg),*) }

            match path.isa() {
                // SAFETY: a `KernelPath` proves that the processor has the instructions.
                #[cfg(target_arch = "x86_64")]
                $crate::isa::Isa::Avx512Vnni => unsafe { avx512($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                $crate::isa::Isa::Avx2 | $crate::isa::Isa::AvxVnni => unsafe { avx2($($arg),*) },
                _ => body($($arg),*),
            }
        }
    };
}
pub(crate) use dispatch;
