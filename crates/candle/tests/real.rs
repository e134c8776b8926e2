//! The laws on the real model, with the file's own blocks and with `f32`.

mod support;

use std::sync::{Arc, LazyLock};

use support::{Short, options, real_model};
use upcycle_candle::{Model, Weights};
use upcycle_testkit::{Law, Subject};

type Shared = LazyLock<Arc<Model>>;

fn load(weights: Weights) -> Arc<Model> {
    Model::load(real_model(), &options(weights)).unwrap_or_else(|error| panic!("{}", support::chain(&error)))
}

static FILE: Shared = LazyLock::new(|| load(Weights::File));
static F32: Shared = LazyLock::new(|| load(Weights::F32));

/// Exact: see "Exactness" in the crate's documentation. Ordinary words, and sizes that a debug build can bear.
fn exact(model: &'static Shared) -> Subject {
    Subject::new(|| Short::new(Arc::clone(model), 40)).tokens(500..6000).cases(1).sizes(6, 8).output(8)
}

const NO_NAN: (Law, &str) =
    (Law::NotFiniteIsAnError, "the real model has no NaN; tests/tiny.rs tries it on models that do");

upcycle_testkit::conformance! {
    mod file;
    subject: || exact(&FILE),
    exempt: [(NO_NAN.0, NO_NAN.1)],
}

upcycle_testkit::conformance! {
    mod f32;
    subject: || exact(&F32),
    exempt: [(NO_NAN.0, NO_NAN.1)],
}
