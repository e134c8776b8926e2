//! A text that is decoded in the made-up language, one part of a step at a time.

use fastrand::Rng;
use upcycle_core::{
    AcceptedPath, DraftContext, DraftTree, Drafter, NodeId, Outcome, Phase, Row, RowSelection, SeqId,
    TokenId, TopK, TreeInput, TreeLimits, accept,
};

use crate::language::{K, LOGITS, Language};

const SEQ: SeqId = SeqId::new(1);

/// Draft nodes of the paper's tree.
pub(crate) const PAPER: usize = 80;

/// Tokens after which a new text begins.
const LONG: usize = 4096;

/// A tree with all that a pass says of it.
#[derive(Clone, Debug)]
pub(crate) struct Pass {
    pub(crate) before: Vec<TokenId>,
    pub(crate) tree: DraftTree,
    pub(crate) top: TopK,
    pub(crate) walk: AcceptedPath,
}

impl Pass {
    pub(crate) fn outcome(&self) -> Outcome<'_> {
        Outcome {
            seq: SEQ,
            phase: Phase::Decode,
            prefix: &self.before,
            tree: &self.tree,
            accepted: &self.walk,
            top: &self.top,
            input: 0,
        }
    }
}

/// A drafter at work: [`draft`](Self::draft), [`verify`](Self::verify), [`learn`](Self::learn), and again.
#[derive(Debug)]
pub(crate) struct Reading<D> {
    pub(crate) drafter: D,
    language: Language,
    nodes: usize,
    /// At least two.
    tokens: Vec<TokenId>,
    pass: Pass,
    rng: Rng,
}

impl<D: Drafter> Reading<D> {
    /// A text in a language of `vocab` tokens, with as many draft nodes for each step as the paper's tree has.
    pub(crate) fn new(drafter: D, vocab: usize) -> Self {
        let pass = Pass {
            before: Vec::new(),
            tree: DraftTree::new(),
            top: TopK::new(K),
            walk: AcceptedPath::default(),
        };
        let (language, rng) = (Language::new(vocab), Rng::with_seed(1));
        let mut reading = Self { drafter, language, nodes: PAPER, tokens: Vec::new(), pass, rng };
        reading.begin();
        reading
    }

    /// As after `steps` steps.
    pub(crate) fn warmed(mut self, steps: u32) -> Self {
        self.passes(steps);
        self
    }

    /// With `nodes` draft nodes for each step from here on.
    pub(crate) fn with_nodes(mut self, nodes: usize) -> Self {
        self.nodes = nodes;
        self
    }

    fn begin(&mut self) {
        self.drafter.drop_sequence(SEQ);
        self.tokens.clear();
        for _ in 0..2 {
            self.tokens.push(self.language.word(&mut self.rng));
        }
    }

    /// The drafter's part; gives the nodes drafted.
    pub(crate) fn draft(&mut self) -> usize {
        let room = TreeLimits { nodes: self.nodes, ..TreeLimits::UNBOUNDED };
        let context = DraftContext { seq: SEQ, tokens: &self.tokens };
        let last = self.tokens.len() - 1;
        self.pass.tree.reset(self.tokens[last], room);
        self.pass.before.clear();
        self.pass.before.extend_from_slice(&self.tokens[..last]);
        self.drafter.draft(context, &mut self.pass.tree);
        self.pass.tree.draft_len()
    }

    /// The model's part. First fills what the drafter left of the room, so that every pass has equally many rows.
    pub(crate) fn verify(&mut self) {
        let Self { language, pass: Pass { tree, top, walk, .. }, rng, .. } = self;
        let last = self.tokens[self.tokens.len() - 2];
        let before =
            |tree: &DraftTree, node: NodeId| tree.parent(node).map_or(last, |above| token(tree, above));
        let mut node = NodeId::ROOT;
        while tree.draft_len() < self.nodes {
            for candidate in language.candidates(before(tree, node), token(tree, node)) {
                // A push that is refused finds the room used up, which ends the loop.
                let _ = tree.push(node, candidate, None);
            }
            node = NodeId::new(node.index() + 1);
        }
        top.reset(&[TreeInput { seq: SEQ, tree, rows: RowSelection::All }], usize::MAX);
        for node in tree.nodes() {
            let index = top.index(Row { input: 0, node: node.index() }).expect("every row is asked for");
            let (ids, logits) = top.candidates_mut(index);
            ids.copy_from_slice(&language.candidates(before(tree, node), token(tree, node)));
            logits.copy_from_slice(&LOGITS);
        }
        let mut draw = |node| Ok::<_, ()>(language.next(before(tree, node), token(tree, node), rng));
        accept(tree, walk, &mut draw).expect("no draw fails");
    }

    /// What the drafter learns, and the text's new tokens.
    pub(crate) fn learn(&mut self) {
        self.drafter.observe(&self.pass.outcome());
        self.tokens.extend_from_slice(&self.pass.walk.sampled);
        if self.tokens.len() > LONG {
            self.begin();
        }
    }
    /// The passes of the next `steps` steps.
    pub(crate) fn passes(&mut self, steps: u32) -> Vec<Pass> {
        let mut step = || {
            self.draft();
            self.verify();
            self.learn();
            self.pass.clone()
        };
        (0..steps).map(|_| step()).collect()
    }
}

fn token(tree: &DraftTree, node: NodeId) -> TokenId {
    tree.tokens()[node.index()]
}
