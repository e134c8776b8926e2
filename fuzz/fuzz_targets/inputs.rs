//! One binary for all targets; `UPCYCLE_FUZZ_TARGET` selects one.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use upcycle_fuzz::{TARGETS, Target};

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    let name = std::env::var("UPCYCLE_FUZZ_TARGET").unwrap_or_default();
    let known: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    let target = TARGETS.iter().find(|target| target.name == name);
    target.unwrap_or_else(|| panic!("UPCYCLE_FUZZ_TARGET is `{name}`; expected one of: {}", known.join(", ")))
});

fuzz_target!(|bytes: &[u8]| {
    (TARGET.read)(bytes);
});
