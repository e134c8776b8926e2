//! Loading the models that the tests run.
#![allow(dead_code, reason = "each test binary uses a part of this")]

pub(crate) mod quantize;

use std::sync::Arc;

use candle_core::Device;
use upcycle_candle::{CandleVerifier, Model, WeightStorage};
use upcycle_core::Verifier;
use upcycle_testkit::tiny::{Format, Tiny};
use upcycle_testkit::{Subject, Tolerance};

/// The CPU, or a GPU if `UPCYCLE_TEST_CANDLE_DEVICE` is `cuda`, as in `scripts/check-cuda.sh`.
pub(crate) fn device() -> Device {
    match std::env::var("UPCYCLE_TEST_CANDLE_DEVICE").as_deref() {
        Ok("cuda") => Device::new_cuda(0).expect("a GPU, and a build with `--features cuda`"),
        Ok("cpu") | Err(_) => Device::Cpu,
        Ok(other) => panic!("UPCYCLE_TEST_CANDLE_DEVICE is cuda or cpu, not {other}"),
    }
}

pub(crate) fn load(tiny: &Tiny, format: Format, weights: WeightStorage) -> Arc<Model> {
    Model::load_on(tiny.save(format).path(), weights, device(), &mut |_, _| ())
        .unwrap_or_else(|error| panic!("{tiny:?}: {error:?}"))
}

/// The laws hold within the stated tolerance, or less: logits of tiny models are small. In the poisoned model, values overflow where
/// rounding of activations could hide it.
pub(crate) fn subject(tiny: &Tiny, format: Format) -> Subject {
    let model = load(tiny, format, WeightStorage::File);
    let poisoned = Tiny { poisoned: Some("blk.0.ffn_up.weight"), ..tiny.clone() };
    let poisoned = load(&poisoned, format, WeightStorage::File);
    // An H200 moved them by 0.32 where it switches from products of few rows to products of many.
    let close = if device().is_cpu() { 0.3 } else { 0.5 };
    let stated = CandleVerifier::new(model.clone()).row_tolerance().min(close);
    Subject::new(move || CandleVerifier::new(model.clone()))
        .not_finite(move || CandleVerifier::new(poisoned.clone()))
        .tolerance(Tolerance::Within(stated))
}

/// The error and its causes.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
