//! The instruction sets that llama.cpp was compiled for, and those that this processor has.

use std::ffi::c_int;

use llama_cpp_sys_2 as sys;

/// An instruction set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Feature {
    pub(crate) name: &'static str,
    /// Whether the library uses it.
    pub(crate) compiled: bool,
    /// Whether the processor has it.
    pub(crate) detected: bool,
}

/// The instruction sets that matter for speed.
pub(crate) fn features() -> Vec<Feature> {
    let feature = |name, compiled: unsafe extern "C" fn() -> c_int, detected| {
        // SAFETY: it returns a constant of the build.
        let compiled = unsafe { compiled() } != 0;
        Feature { name, compiled, detected }
    };
    #[cfg(target_arch = "x86_64")]
    return vec![
        feature("AVX", sys::ggml_cpu_has_avx, is_x86_feature_detected!("avx")),
        feature("F16C", sys::ggml_cpu_has_f16c, is_x86_feature_detected!("f16c")),
        feature("FMA", sys::ggml_cpu_has_fma, is_x86_feature_detected!("fma")),
        feature("AVX2", sys::ggml_cpu_has_avx2, is_x86_feature_detected!("avx2")),
        feature("BMI2", sys::ggml_cpu_has_bmi2, is_x86_feature_detected!("bmi2")),
        feature("AVX512", sys::ggml_cpu_has_avx512, is_x86_feature_detected!("avx512bw")),
        feature("AVX512_VBMI", sys::ggml_cpu_has_avx512_vbmi, is_x86_feature_detected!("avx512vbmi")),
        feature("AVX512_VNNI", sys::ggml_cpu_has_avx512_vnni, is_x86_feature_detected!("avx512vnni")),
        feature("AVX512_BF16", sys::ggml_cpu_has_avx512_bf16, is_x86_feature_detected!("avx512bf16")),
    ];
    #[cfg(target_arch = "aarch64")]
    return vec![
        feature("NEON", sys::ggml_cpu_has_neon, std::arch::is_aarch64_feature_detected!("neon")),
        feature("DOTPROD", sys::ggml_cpu_has_dotprod, std::arch::is_aarch64_feature_detected!("dotprod")),
        feature(
            "MATMUL_INT8",
            sys::ggml_cpu_has_matmul_int8,
            std::arch::is_aarch64_feature_detected!("i8mm"),
        ),
    ];
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        let _ = feature;
        Vec::new()
    }
}

/// The names of the features that `which` selects, as a list.
pub(crate) fn list(features: &[Feature], which: impl Fn(&Feature) -> bool) -> String {
    features.iter().filter(|feature| which(feature)).map(|feature| feature.name).collect::<Vec<_>>().join(" ")
}
