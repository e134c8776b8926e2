//! Which instruction set the kernels use: detected once, or forced by `UPCYCLE_KERNELS`.

use std::sync::OnceLock;

/// An instruction set with kernels of its own. All give the same bits: integer sums are exact, and every floating-point operation is
/// the same, in the same order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Isa {
    /// Plain Rust. Slow without a fused multiply-add instruction.
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

/// The environment variable that forces an instruction set by its [name](Isa::name).
pub const FORCE: &str = "UPCYCLE_KERNELS";

impl Isa {
    /// All, from the plainest to the best.
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

    /// Whether this processor has it.
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

    /// Those that this processor has, from the plainest to the best.
    #[must_use]
    pub fn available() -> Vec<Isa> {
        Self::ALL.into_iter().filter(|isa| isa.is_available()).collect()
    }

    /// The best that this processor has.
    #[must_use]
    pub fn best() -> Isa {
        Self::ALL.into_iter().rev().find(|isa| isa.is_available()).unwrap_or(Isa::Portable)
    }
}

/// Why an instruction set cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IsaError {
    /// There are no kernels of that name.
    #[error("no kernels are called {name:?}; this processor can run: {}", names(available))]
    Unknown {
        /// The name.
        name: String,
        /// What this processor has.
        available: Vec<Isa>,
    },
    /// This processor lacks the instructions.
    #[error("the kernels {} need instructions that this processor lacks; it can run: {}", isa.name(), names(available))]
    Unavailable {
        /// The instruction set.
        isa: Isa,
        /// What this processor has.
        available: Vec<Isa>,
    },
}

fn names(isas: &[Isa]) -> String {
    isas.iter().map(|isa| isa.name()).collect::<Vec<_>>().join(", ")
}

/// An instruction set that this processor is known to have. Kernels can only be called with one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KernelPath(Isa);

impl KernelPath {
    /// Checks that this processor has `isa`.
    ///
    /// # Errors
    /// [`IsaError::Unavailable`] if it does not.
    pub fn new(isa: Isa) -> Result<Self, IsaError> {
        if isa.is_available() {
            Ok(Self(isa))
        } else {
            Err(IsaError::Unavailable { isa, available: Isa::available() })
        }
    }

    /// The path of this [name](Isa::name).
    ///
    /// # Errors
    /// [`IsaError`] for an unknown name, or one that this processor lacks.
    pub fn named(name: &str) -> Result<Self, IsaError> {
        match Isa::ALL.into_iter().find(|isa| isa.name() == name) {
            None => Err(IsaError::Unknown { name: name.to_owned(), available: Isa::available() }),
            Some(isa) => Self::new(isa),
        }
    }

    /// The path that `UPCYCLE_KERNELS` names, or the best without it. It is chosen once in a process, and logged.
    ///
    /// # Errors
    /// As [`named`](Self::named).
    pub fn chosen() -> Result<Self, IsaError> {
        static CHOSEN: OnceLock<Result<KernelPath, IsaError>> = OnceLock::new();
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

    /// The instruction set.
    #[must_use]
    pub fn isa(self) -> Isa {
        self.0
    }
}
