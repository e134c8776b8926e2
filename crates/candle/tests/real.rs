//! The laws on the real model: on the workspace's own kernels with the file's blocks and with `f32`, and on candle's
//! products.

mod support;

use std::sync::{Arc, LazyLock};

use support::{Short, load_real};
use upcycle_candle::{Model, Products, Weights};
use upcycle_testkit::{Law, Subject};

type Shared = LazyLock<Arc<Model>>;

static OWN: Shared = LazyLock::new(|| load_real(Products::Own, Weights::File));
static OWN_F32: Shared = LazyLock::new(|| load_real(Products::Own, Weights::F32));
static CANDLE: Shared = LazyLock::new(|| load_real(Products::Candle, Weights::File));

/// Exact: see "Exactness" in the crate's documentation. Ordinary words, and sizes that a debug build can bear.
fn exact(model: &'static Shared) -> Subject {
    Subject::new(|| Short::new(Arc::clone(model), 40)).tokens(500..6000).cases(1).sizes(6, 8).output(8)
}

const NO_NAN: (Law, &str) =
    (Law::NotFiniteIsAnError, "the real model has no NaN; tests/tiny.rs tries it on models that do");

macro_rules! laws {
    ($($name:ident: $model:ident;)*) => {$(
        upcycle_testkit::conformance! {
            mod $name;
            subject: || exact(&$model),
            exempt: [(NO_NAN.0, NO_NAN.1)],
        }
    )*};
}

laws! {
    own: OWN;
    own_f32: OWN_F32;
    candle: CANDLE;
}
