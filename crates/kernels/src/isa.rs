//! Which instructions the kernels use: found out once, or forced by `UPCYCLE_KERNELS`.

use std::sync::OnceLock;

use crate::IsaError;

/// A kernel path. All paths give the same bits: integer parts are exact, and every floating-point operation is the same
/// fused multiply-add in the same order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Isa {
    /// Plain Rust; slow where the target has no fused multiply-add.
    Portable,
    /// NEON with the dot products of Armv8.2.
    NeonDot,
    /// AVX2, FMA and F16C.
    Avx2,
    /// AVX2, FMA, F16C and the 256-bit dot products of AVX-VNNI.
    AvxVnni,
    /// AVX-512 (F, BW, VL) with VNNI.
    Avx512Vnni,
}

/// The environment variable that forces a path by its [name](Isa::name).
pub const FORCE: &str = "UPCYCLE_KERNELS";

impl Isa {
    /// Every path, the plainest first.
    pub const ALL: [Isa; 5] = [Isa::Portable, Isa::NeonDot, Isa::Avx2, Isa::AvxVnni, Isa::Avx512Vnni];

    /// `portable`, `neon-dot`, `avx2`, `avx-vnni` or `avx512-vnni`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Isa::Portable => "portable",
            Isa::NeonDot => "neon-dot",
            Isa::Avx2 => "avx2",
            Isa::AvxVnni => "avx-vnni",
            Isa::Avx512Vnni => "avx512-vnni",
        }
    }

    /// Whether this processor can run it.
    #[must_use]
    pub fn is_available(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("f16c");
            match self {
                Isa::Portable => true,
                Isa::NeonDot => false,
                Isa::Avx2 => avx2,
                Isa::AvxVnni => avx2 && is_x86_feature_detected!("avxvnni"),
                Isa::Avx512Vnni => {
                    avx2 && is_x86_feature_detected!("avx512f")
                        && is_x86_feature_detected!("avx512bw")
                        && is_x86_feature_detected!("avx512vl")
                        && is_x86_feature_detected!("avx512vnni")
                }
            }
        }
        #[cfg(target_arch = "aarch64")]
        {
            match self {
                Isa::Portable => true,
                Isa::NeonDot => {
                    std::arch::is_aarch64_feature_detected!("neon")
                        && std::arch::is_aarch64_feature_detected!("dotprod")
                }
                Isa::Avx2 | Isa::AvxVnni | Isa::Avx512Vnni => false,
            }
        }
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        {
            self == Isa::Portable
        }
    }

    /// The paths that this processor can run, the plainest first.
    #[must_use]
    pub fn available() -> Vec<Isa> {
        Self::ALL.into_iter().filter(|isa| isa.is_available()).collect()
    }

    /// The best path of this processor.
    #[must_use]
    pub fn best() -> Isa {
        Self::ALL.into_iter().rev().find(|isa| isa.is_available()).unwrap_or(Isa::Portable)
    }
}

/// A path that this processor is known to run: the key to the kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Path(Isa);

impl Path {
    /// Checks that this processor can run `isa`.
    ///
    /// # Errors
    /// [`IsaError::Unavailable`] if it cannot.
    pub fn new(isa: Isa) -> Result<Self, IsaError> {
        if isa.is_available() {
            Ok(Self(isa))
        } else {
            Err(IsaError::Unavailable { isa, available: Isa::available() })
        }
    }

    /// The path of this name.
    ///
    /// # Errors
    /// [`IsaError`] if there is none, or if this processor cannot run it.
    pub fn named(name: &str) -> Result<Self, IsaError> {
        match Isa::ALL.into_iter().find(|isa| isa.name() == name) {
            None => Err(IsaError::Unknown { name: name.to_owned(), available: Isa::available() }),
            Some(isa) => Self::new(isa),
        }
    }

    /// The path that `UPCYCLE_KERNELS` names, else the best; chosen once in a process, and logged.
    ///
    /// # Errors
    /// [`IsaError`] for a name that is not one, or not possible here.
    pub fn chosen() -> Result<Self, IsaError> {
        static CHOSEN: OnceLock<Result<Path, IsaError>> = OnceLock::new();
        CHOSEN
            .get_or_init(|| {
                let path = match std::env::var(FORCE) {
                    Ok(name) => Self::named(&name)?,
                    Err(_) => Self::new(Isa::best())?,
                };
                tracing::info!(kernels = path.isa().name(), "kernels chosen");
                Ok(path)
            })
            .clone()
    }

    /// Which instructions it uses.
    #[must_use]
    pub fn isa(self) -> Isa {
        self.0
    }
}
