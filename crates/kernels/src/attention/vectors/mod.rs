//! Attention in vector instructions.

mod pages;

#[cfg(target_arch = "aarch64")]
mod arm;
#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(target_arch = "aarch64")]
pub(super) use arm::neon;
#[cfg(target_arch = "x86_64")]
pub(super) use x86::{avx2, avx512};
