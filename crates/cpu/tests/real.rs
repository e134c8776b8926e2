//! The laws on the real model, with the file's blocks and with `f32`.

mod support;

use std::sync::{Arc, LazyLock};

use support::{Short, load_real};
use upcycle_cpu::{Model, WeightStorage};
use upcycle_testkit::{Law, Subject};

type Shared = LazyLock<Arc<Model>>;

static FILE: Shared = LazyLock::new(|| load_real(WeightStorage::File));
static F32: Shared = LazyLock::new(|| load_real(WeightStorage::F32));

/// Ordinary words, and sizes that a debug build can bear.
fn subject(model: &'static Shared) -> Subject {
    Subject::new(|| Short::new(Arc::clone(model), 40)).tokens(500..6000).cases(1).sizes(6, 8).output(8)
}

const NO_NAN: (Law, &str) =
    (Law::NotFiniteIsAnError, "the real model has no NaN; tests/tiny.rs has models that do");

upcycle_testkit::conformance! {
    mod file;
    subject: || subject(&FILE),
    exempt: [(NO_NAN.0, NO_NAN.1)],
}

upcycle_testkit::conformance! {
    mod f32;
    subject: || subject(&F32),
    exempt: [(NO_NAN.0, NO_NAN.1)],
}
