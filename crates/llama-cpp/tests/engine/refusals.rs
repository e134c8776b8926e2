//! Models, options and passes that are refused, each with its own error.

use std::fs;
use std::sync::Arc;

use upcycle_checkpoint::gguf::GgufError;
use upcycle_checkpoint::gguf::write::GgufWriter;
use upcycle_core::{
    Commit, DraftTree, NodeId, RowSelection, SeqId, TopK, TreeInput, TreeLimits, Verifier, VerifyError,
};
use upcycle_llama_cpp::{CacheType, FlashAttention, LlamaVerifier, LoadError, Options, PassError};
use upcycle_testkit::tiny::{Tiny, write};

use crate::support::{chain, load, options, refusal, verifier};

#[test]
fn files_that_are_not_models_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let missing = refusal(&folder.path().join("no.gguf"), &options(64));
    assert!(matches!(missing, LoadError::Gguf { source: GgufError::Open { .. }, .. }), "{missing:?}");
    let whole = fs::read(write(&Tiny::default().writer(None)).path()).expect("written");
    let path = folder.path().join("cut.gguf");
    for len in [0, 3, 100, whole.len() / 2, whole.len() - 1] {
        fs::write(&path, &whole[..len]).expect("to write");
        assert!(matches!(refusal(&path, &options(64)), LoadError::Gguf { .. }), "{len}");
    }
}

#[test]
fn models_that_llama_cpp_refuses_are_refused_with_its_reason() {
    let reason = |writer: &GgufWriter| match refusal(write(writer).path(), &options(64)) {
        LoadError::Model { reason, .. } => reason,
        other => panic!("{other:?}"),
    };
    let tiny = Tiny::default();
    let unknown = Tiny { architecture: "tomorrow", ..tiny.clone() };
    assert!(reason(&unknown.writer(None)).contains("tomorrow"));
    for tensor in ["blk.1.ffn_up.weight", "token_embd.weight", "output_norm.weight"] {
        assert!(reason(&tiny.writer(Some(tensor))).contains(tensor), "{tensor}");
    }
    let embeds = Tiny { architecture: "bert", ..tiny.clone() };
    let error = refusal(write(&embeds.writer(None)).path(), &options(64));
    assert!(matches!(error, LoadError::NotGenerative { .. }) && error.to_string().contains("embeds texts"));
}

#[test]
fn options_that_do_not_work_here_are_refused() {
    let file = write(&Tiny::default().writer(None));
    let error = refusal(file.path(), &Options { n_gpu_layers: Some(1), ..options(64) });
    assert!(
        matches!(error, LoadError::NoGpu { layers: 1, .. }) && error.to_string().contains("llama-cpp-cuda")
    );
    // A context of 2^30 tokens of 2 layers with 2 heads of 16 is 256 GiB.
    let error = refusal(file.path(), &options(1 << 30));
    assert!(matches!(error, LoadError::ContextMemory { needed: 262_144, .. }), "{error:?}");
    let more = Options { n_ctx: u32::MAX.try_into().ok(), ..options(64) };
    assert!(matches!(refusal(file.path(), &more), LoadError::Options { .. }));
    for n_seq_max in [3, 257] {
        assert!(matches!(
            refusal(file.path(), &Options { n_seq_max, ..options(64) }),
            LoadError::Options { .. }
        ));
    }
    let larger = Options { n_ubatch: std::num::NonZeroU32::new(129), ..options(64) };
    assert!(matches!(refusal(file.path(), &larger), LoadError::Options { .. }));
    let off = Options { cache_type_v: CacheType::Q8_0, flash_attn: FlashAttention::Off, ..options(64) };
    assert!(matches!(refusal(file.path(), &off), LoadError::Options { .. }));
    // A head of 16 is not a multiple of the block of 32.
    let blocks = Options { cache_type_k: CacheType::Q8_0, ..options(64) };
    let error = refusal(file.path(), &blocks);
    assert!(
        matches!(&error, LoadError::Context { reason, .. } if reason.contains("block size")),
        "{error:?}"
    );
}

/// A root with `leaves` children.
fn star(leaves: u32) -> DraftTree {
    let mut tree = DraftTree::new();
    tree.reset(0, TreeLimits::UNBOUNDED);
    for token in 0..leaves {
        tree.push(NodeId::ROOT, token, None).expect("there is room");
    }
    tree
}

fn score(verifier: &mut LlamaVerifier, seq: SeqId, tree: &DraftTree) -> Result<(), VerifyError> {
    verifier.forward(&[TreeInput { seq, tree, rows: RowSelection::All }], &mut TopK::new(4))
}

fn pass_error(result: Result<(), VerifyError>) -> PassError {
    match result {
        Err(VerifyError::Backend { source, .. }) => {
            *source.downcast::<PassError>().expect("one of this backend")
        }
        other => panic!("{other:?}"),
    }
}

/// Without free cells a pass is refused, and committed and pending rows stay.
#[test]
fn sequences_that_fill_all_cells() -> Result<(), VerifyError> {
    let model = load(write(&Tiny::default().writer(None)).path(), &options(160));
    let mut verifier = verifier(&model);
    let chain = DraftTree::chain(&[7; 120]);
    let path: Vec<NodeId> = chain.nodes().collect();
    // llama.cpp rounds the context of 160 up to 256 cells.
    let open: Vec<SeqId> = (0..3).map(|_| verifier.open()).collect::<Result<_, _>>()?;
    for &seq in &open[..2] {
        score(&mut verifier, seq, &chain)?;
        verifier.commit(&[Commit { seq, path: &path }])?;
    }
    let waits = DraftTree::chain(&[3; 10]);
    score(&mut verifier, open[2], &waits)?;
    let error = pass_error(score(&mut verifier, open[0], &DraftTree::chain(&[5; 7])));
    assert_eq!(error, PassError::CellsUsedUp { used: 250, rows: 7, cells: 256 });
    // The sequence's own pending tree may go, because the pass replaces it anyway.
    score(&mut verifier, open[2], &DraftTree::chain(&[4; 16]))?;
    verifier.commit(&[Commit { seq: open[2], path: &path[..16] }])?;
    let error = pass_error(score(&mut verifier, open[2], &DraftTree::chain(&[1])));
    assert_eq!(error, PassError::CellsUsedUp { used: 256, rows: 1, cells: 256 });
    verifier.close(open[1]);
    score(&mut verifier, open[2], &star(20))
}

/// More than llama.cpp's 256 sequence ids would abort the process.
#[test]
fn pending_trees_hold_their_ids() -> Result<(), VerifyError> {
    let tiny = Tiny { vocab: 300, ..Tiny::default() };
    let model = load(
        write(&tiny.writer(None)).path(),
        &Options { n_batch: 512.try_into().expect("not 0"), n_seq_max: 256, ..options(600) },
    );
    let mut verifier = verifier(&model);
    let (first, second) = (verifier.open()?, verifier.open()?);
    assert_eq!(verifier.limits().max_leaves, 192);
    score(&mut verifier, first, &star(192))?;
    // 256 ids, minus two of the sequences and 192 of the pending leaves.
    let error = pass_error(score(&mut verifier, second, &star(63)));
    assert_eq!(error, PassError::IdsUsedUp { ids: 256 });
    score(&mut verifier, second, &star(62))?;
    let more = verifier.open();
    assert_eq!(pass_error(more.map(drop)), PassError::IdsUsedUp { ids: 256 });
    // The pending trees survive, and their ids move from sequence to sequence.
    verifier.commit(&[Commit { seq: first, path: &[NodeId::ROOT, NodeId::new(9)] }])?;
    for _ in 0..3 {
        score(&mut verifier, second, &star(192))?;
        score(&mut verifier, second, &star(192))?;
        verifier.commit(&[Commit { seq: second, path: &[NodeId::ROOT] }])?;
        score(&mut verifier, first, &star(192))?;
        verifier.commit(&[Commit { seq: first, path: &[NodeId::ROOT] }])?;
    }
    for _ in 2..64 {
        verifier.open()?;
    }
    score(&mut verifier, first, &star(192))
}

#[test]
fn a_pass_over_nothing_does_nothing() -> Result<(), VerifyError> {
    let model = load(write(&Tiny::default().writer(None)).path(), &options(64));
    let mut verifier =
        LlamaVerifier::new(Arc::clone(&model)).unwrap_or_else(|error| panic!("{}", chain(&error)));
    verifier.forward(&[], &mut TopK::new(1))?;
    verifier.commit(&[])
}
