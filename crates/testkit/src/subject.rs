//! What the laws are tried on.

use std::fmt;

use upcycle_core::{TokenId, Verifier};

/// How far two rows of logits that should be equal may differ.
///
/// Zero where the backend's arithmetic for a row does not depend on the rows beside it; else a number written down
/// for each engine and type, about 1e-3 for f32 and 5e-2 for f16.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Tolerance {
    /// Not at all: equal to the last bit.
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

/// A backend with a model, as the laws see it: how to make one, how exact it is, and how much to try.
///
/// The sizes start small enough that a model of a hundred million weights takes seconds. Law 8 walks up to every
/// limit, so give the subject a context of a few hundred tokens.
pub struct Subject {
    make: Make,
    make_not_finite: Option<Make>,
    pub(crate) tolerance: Tolerance,
    pub(crate) tokens: Vec<TokenId>,
    pub(crate) seed: u64,
    pub(crate) cases: usize,
    pub(crate) prefix: usize,
    pub(crate) nodes: usize,
    pub(crate) output: usize,
}

impl Subject {
    /// A subject made anew by `make` for each law: exact, with any token, three cases, 12 committed tokens, trees of
    /// 12 draft nodes and texts of 24 tokens.
    pub fn new<V: Verifier + 'static>(make: impl Fn() -> V + 'static) -> Self {
        Self {
            make: Box::new(move || Box::new(make())),
            make_not_finite: None,
            tolerance: Tolerance::Exact,
            tokens: Vec::new(),
            seed: 1,
            cases: 3,
            prefix: 12,
            nodes: 12,
            output: 24,
        }
    }

    /// How far equal rows may differ.
    #[must_use]
    pub fn tolerance(mut self, tolerance: Tolerance) -> Self {
        self.tolerance = tolerance;
        self
    }

    /// The tokens to draw from, where not every token of the vocabulary makes sense. At least four.
    #[must_use]
    pub fn tokens(mut self, tokens: impl IntoIterator<Item = TokenId>) -> Self {
        self.tokens = tokens.into_iter().collect();
        self
    }

    /// Another seed: other tokens, other trees.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// How many random cases each law tries (0 counts as 1).
    #[must_use]
    pub fn cases(mut self, cases: usize) -> Self {
        self.cases = cases.max(1);
        self
    }

    /// Committed tokens before each tree, and draft nodes of it. At least 4 and 6; cut to the backend's limits.
    #[must_use]
    pub fn sizes(mut self, prefix: usize, nodes: usize) -> Self {
        self.prefix = prefix.max(4);
        self.nodes = nodes.max(6);
        self
    }

    /// Tokens of each text of law 10.
    #[must_use]
    pub fn output(mut self, tokens: usize) -> Self {
        self.output = tokens.max(1);
        self
    }

    /// How to make a verifier whose first pass yields a row that is not finite: what law 11 needs. A model with a
    /// NaN among its weights is one.
    #[must_use]
    pub fn not_finite<V: Verifier + 'static>(mut self, make: impl Fn() -> V + 'static) -> Self {
        self.make_not_finite = Some(Box::new(move || Box::new(make())));
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

    /// The same trials on what `wrap` makes of this subject's verifiers.
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
            .field("prefix", &self.prefix)
            .field("nodes", &self.nodes)
            .field("output", &self.output)
            .finish_non_exhaustive()
    }
}
