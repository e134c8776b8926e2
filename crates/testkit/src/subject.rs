//! The backend under test.

use std::fmt;

use upcycle_core::{TokenId, Verifier};

/// How much two rows of logits that should be equal may differ.
///
/// [`Exact`](Self::Exact) if the arithmetic of a row does not depend on the other rows of its pass. Else a number documented
/// for each engine and type, about 1e-3 for f32 and 5e-2 for f16.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Tolerance {
    /// Not at all: the bits are equal.
    Exact,
    /// Each logit by at most this.
    Within(f32),
}

impl Tolerance {
    /// The largest difference allowed.
    #[must_use]
    pub fn most(self) -> f32 {
        match self {
            Tolerance::Exact => 0.0,
            Tolerance::Within(most) => most,
        }
    }
}

type Make = Box<dyn Fn() -> Box<dyn Verifier>>;

/// The sizes of a case.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// Committed tokens before each tree.
    pub(crate) prefix: usize,
    /// Draft nodes of each tree.
    pub(crate) nodes: usize,
}

/// A backend with a model under test: how to create it, how exact it is, and how much to test.
///
/// With the default sizes, a model of a hundred million weights takes seconds. Law 8 goes up to every limit, so give the
/// subject a context of a few hundred tokens.
pub struct Subject {
    make: Make,
    make_not_finite: Option<Make>,
    make_failing_commit: Option<Make>,
    pub(crate) tolerance: Tolerance,
    pub(crate) tokens: Vec<TokenId>,
    pub(crate) seed: u64,
    pub(crate) cases: usize,
    /// Committed tokens before each tree and its draft nodes, if set.
    pub(crate) sizes: Option<Sizes>,
    pub(crate) output: usize,
}

impl Subject {
    /// A subject whose verifiers `make` creates, a new one for each law. By default it is exact and tested with all tokens, three
    /// cases, 12 committed tokens, trees of 12 draft nodes and texts of 24 tokens. A small context or small passes reduce these
    /// sizes.
    pub fn new<V: Verifier + 'static>(make: impl Fn() -> V + 'static) -> Self {
        Self {
            make: Box::new(move || Box::new(make())),
            make_not_finite: None,
            make_failing_commit: None,
            tolerance: Tolerance::Exact,
            tokens: Vec::new(),
            seed: 1,
            cases: 3,
            sizes: None,
            output: 24,
        }
    }

    /// Sets how much equal rows may differ.
    #[must_use]
    pub fn tolerance(mut self, tolerance: Tolerance) -> Self {
        self.tolerance = tolerance;
        self
    }

    /// Sets the tokens to test with, at least four, if not every token of the vocabulary makes sense.
    #[must_use]
    pub fn tokens(mut self, tokens: impl IntoIterator<Item = TokenId>) -> Self {
        self.tokens = tokens.into_iter().collect();
        self
    }

    /// Sets the seed of tokens and trees.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Sets the number of random cases for each law (0 counts as 1).
    #[must_use]
    pub fn cases(mut self, cases: usize) -> Self {
        self.cases = cases.max(1);
        self
    }

    /// Sets the number of committed tokens before each tree (at least 4) and of its draft nodes (at least 6). A prefix longer
    /// than a pass is read in several. A law cannot be tested on a verifier whose limits do not hold these sizes.
    #[must_use]
    pub fn sizes(mut self, prefix: usize, nodes: usize) -> Self {
        self.sizes = Some(Sizes { prefix: prefix.max(4), nodes: nodes.max(6) });
        self
    }

    /// Sets the length of the texts of law 10.
    #[must_use]
    pub fn output(mut self, tokens: usize) -> Self {
        self.output = tokens.max(1);
        self
    }

    /// Sets how to create a verifier whose first pass gives a row that is not finite, which law 11 needs. A model with a NaN
    /// among its weights is one.
    #[must_use]
    pub fn not_finite<V: Verifier + 'static>(mut self, make: impl Fn() -> V + 'static) -> Self {
        self.make_not_finite = Some(Box::new(move || Box::new(make())));
        self
    }

    /// Sets how to create a verifier whose engine fails once: at the second sequence of the first commit of two sequences. Law 15
    /// needs it, unless nothing in a commit of this backend can fail once its paths are checked.
    #[must_use]
    pub fn failing_commit<V: Verifier + 'static>(mut self, make: impl Fn() -> V + 'static) -> Self {
        self.make_failing_commit = Some(Box::new(move || Box::new(make())));
        self
    }

    /// A new verifier.
    #[must_use]
    pub fn make(&self) -> Box<dyn Verifier> {
        (self.make)()
    }

    pub(crate) fn make_not_finite(&self) -> Option<Box<dyn Verifier>> {
        self.make_not_finite.as_ref().map(|make| make())
    }

    pub(crate) fn make_failing_commit(&self) -> Option<Box<dyn Verifier>> {
        self.make_failing_commit.as_ref().map(|make| make())
    }

    /// The same subject with its verifiers wrapped by `wrap`.
    #[must_use]
    pub fn wrapped<W: Verifier + 'static>(self, wrap: impl Fn(Box<dyn Verifier>) -> W + 'static) -> Self {
        let make = self.make;
        Self { make: Box::new(move || Box::new(wrap(make()))), ..self }
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subject")
            .field("tolerance", &self.tolerance)
            .field("seed", &self.seed)
            .field("cases", &self.cases)
            .field("sizes", &self.sizes)
            .field("output", &self.output)
            .finish_non_exhaustive()
    }
}
