//! Loading the models that the tests run.
#![allow(dead_code, reason = "each test binary uses a part of this")]

#[path = "../../../candle/tests/support/quantize.rs"]
pub(crate) mod quantize;

use std::sync::Arc;

use upcycle_core::{Commit, Limits, Row, SeqId, TokenId, TopK, TreeInput, Verifier, VerifyError};
use upcycle_cpu::{CpuVerifier, Model, Options, WeightStorage};
use upcycle_testkit::tiny::{self, Format, Tiny};
use upcycle_testkit::{Subject, real_model};

pub(crate) fn options(weights: WeightStorage) -> Options {
    let mut options = Options::default();
    options.weights = weights;
    options.threads = 2.try_into().ok();
    options
}

/// Loads the real model.
pub(crate) fn load_real(weights: WeightStorage) -> Arc<Model> {
    Model::load(real_model(), &options(weights)).unwrap_or_else(|error| panic!("{}", chain(&error)))
}

pub(crate) fn load(tiny: &Tiny, format: Format, weights: WeightStorage) -> Arc<Model> {
    load_with(tiny, format, &options(weights))
}

pub(crate) fn load_with(tiny: &Tiny, format: Format, options: &Options) -> Arc<Model> {
    let loaded = Model::load(tiny.save(format).path(), options);
    loaded.unwrap_or_else(|error| panic!("{tiny:?}: {}", chain(&error)))
}

/// The laws hold exactly, whatever the type. In the poisoned model, values overflow where rounding of activations could hide it.
pub(crate) fn subject(tiny: &Tiny, format: Format, weights: WeightStorage) -> Subject {
    subject_with(tiny, format, &options(weights))
}

pub(crate) fn subject_with(tiny: &Tiny, format: Format, options: &Options) -> Subject {
    let model = load_with(tiny, format, options);
    let poisoned = Tiny { poisoned: Some("blk.0.ffn_up.weight"), ..tiny.clone() };
    let poisoned = load_with(&poisoned, format, options);
    Subject::new(move || CpuVerifier::new(model.clone()))
        .not_finite(move || CpuVerifier::new(poisoned.clone()))
}

/// The logits of every row of a text.
pub(crate) fn logits(model: Arc<Model>, text: &[TokenId]) -> Vec<Vec<f32>> {
    tiny::logits(&mut CpuVerifier::new(model), text).expect("a sound model")
}

/// The logits after a short text.
pub(crate) fn last_logits(model: Arc<Model>) -> Vec<f32> {
    logits(model, &[5, 40, 17, 88, 3]).pop().expect("a row")
}

/// The error and its causes.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// A verifier with less context than its model, so that a test reaches the end of it.
pub(crate) struct Short {
    inner: CpuVerifier,
    limits: Limits,
}

impl Short {
    pub(crate) fn new(model: Arc<Model>, max_context: usize) -> Self {
        let inner = CpuVerifier::new(model);
        let limits = Limits { max_context, ..inner.limits().clone() };
        Self { inner, limits }
    }
}

impl Verifier for Short {
    fn limits(&self) -> &Limits {
        &self.limits
    }
    fn open(&mut self) -> Result<SeqId, VerifyError> {
        self.inner.open()
    }
    fn close(&mut self, seq: SeqId) {
        self.inner.close(seq);
    }
    fn forward(&mut self, inputs: &[TreeInput<'_>], top: &mut TopK) -> Result<(), VerifyError> {
        self.limits.check_inputs(inputs, |seq| self.inner.committed(seq))?;
        self.inner.forward(inputs, top)
    }
    fn logits(&mut self, row: Row) -> Result<&[f32], VerifyError> {
        self.inner.logits(row)
    }
    fn commit(&mut self, commits: &[Commit<'_>]) -> Result<(), VerifyError> {
        self.inner.commit(commits)
    }
    fn truncate(&mut self, seq: SeqId, len: usize) -> Result<(), VerifyError> {
        self.inner.truncate(seq, len)
    }
}
