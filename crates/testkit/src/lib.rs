//! Tools for testing backends and drafters: an exact verifier without a model, extreme drafters, and the laws that every
//! [`Verifier`](upcycle_core::Verifier) and [`Drafter`](upcycle_core::Drafter) must obey.
//!
//! - A backend calls [`conformance!`] once and gets one test for each [`Law`].
//! - A drafter is tested with [`text_is_plain_with`](laws::text_is_plain_with), as below.
//! - The laws themselves are tested with [`Faulty`] and [`broken`], which contain errors that a law must detect.
//!
//! # Testing a drafter
//!
//! ```
//! use upcycle_core::{DraftContext, DraftTree, Drafter, NodeId};
//! use upcycle_testkit::{NaiveVerifier, Subject, laws};
//!
//! struct Stutter; // Guesses that the last token is repeated.
//! impl Drafter for Stutter {
//!     fn draft(&mut self, context: DraftContext<'_>, tree: &mut DraftTree) {
//!         let _ = tree.push(NodeId::ROOT, context.tokens[context.tokens.len() - 1], None);
//!     }
//! }
//!
//! for seed in 0..20 {
//!     let subject = Subject::new(move || NaiveVerifier::new(64, seed)).seed(seed);
//!     laws::text_is_plain_with(&subject, Stutter)?;
//! }
//! # Ok::<(), upcycle_testkit::Broken>(())
//! ```
#![forbid(unsafe_code)]

// The code on this page runs with the tests of this crate.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/adding-a-drafter.md")]
mod adding_a_drafter {}

mod attention;
pub mod broken;
mod clock;
mod conformance;
pub mod damaged;
mod drafters;
mod faulty;
mod law;
pub mod laws;
mod model;
mod naive;
mod probe;
mod rng;
mod subject;
pub mod tiny;

pub use attention::{Attention, Seen, ancestors};
pub use clock::ManualClock;
pub use conformance::{must_notice, notices, try_law};
pub use drafters::{AdversarialDrafter, OracleDrafter, RandomDrafter};
pub use faulty::{Fault, Faulty};
pub use law::{Broken, Cause, Law};
pub use model::real_model;
pub use naive::{Failure, NaiveVerifier};
pub use subject::{Subject, Tolerance};
pub use upcycle_core::NullDrafter;
