//! The real model in several types: laws, what rounding does to logits, two verifiers at once.

use std::sync::{Arc, LazyLock};

use upcycle_checkpoint::gguf::GgmlType;
use upcycle_core::{
    Commit, Decoder, DraftTree, NodeId, NullDrafter, Request, Row, RowSelection, TokenId, TopK, TreeInput,
    Verifier,
};
use upcycle_llama_cpp::{CacheType, FlashAttention, Model, Options};
use upcycle_testkit::{Law, Subject, Tolerance};

use crate::convert::real_as;
use crate::support::{apart, load, options, real_model, verifier};

type Shared = LazyLock<Arc<Model>>;

static Q4_1: Shared = LazyLock::new(|| load(&real_model(), &options(200)));
static Q8_0: Shared = LazyLock::new(|| load(&real_as(GgmlType::Q8_0), &options(200)));
static F16: Shared = LazyLock::new(|| load(&real_as(GgmlType::F16), &options(200)));
static F32: Shared = LazyLock::new(|| load(&real_as(GgmlType::F32), &options(200)));

/// Ordinary words, and sizes that take seconds, at the tolerance that the backend states.
fn within(model: &'static Shared) -> Subject {
    let stated = verifier(model).row_tolerance();
    Subject::new(|| verifier(model))
        .tokens(500..6000)
        .cases(1)
        .sizes(6, 8)
        .output(8)
        .tolerance(Tolerance::Within(stated))
}

macro_rules! laws {
    ($($name:ident: $model:ident;)*) => {$(
        upcycle_testkit::conformance! {
            mod $name;
            subject: || within(&$model),
            exempt: [(Law::NotFiniteIsAnError, "the real model has no NaN; tiny.rs tries it on models that overflow")],
        }
    )*};
}

laws! {
    q4_1: Q4_1;
    q8_0: Q8_0;
    f16: F16;
}

/// Ordinary text: what the model itself says.
fn texts() -> Vec<Vec<TokenId>> {
    let mut decoder = Decoder::new(verifier(&Q4_1), NullDrafter);
    let starts = [[504_u32, 1633], [788, 3575]];
    let texts = starts.iter().map(|start| {
        let tokens = decoder.generate(start, Request::greedy(46)).expect("a prompt");
        start.iter().copied().chain(tokens.map(|token| token.expect("a token"))).collect()
    });
    texts.collect()
}

/// The logits behind each token of a text in chunks of `n` rows, `[tokens * vocab]`.
fn in_chunks(model: &Arc<Model>, text: &[TokenId], n: usize) -> Vec<f32> {
    let mut verifier = verifier(model);
    let mut logits = Vec::new();
    let seq = verifier.open().expect("room for one");
    for tokens in text.chunks(n) {
        let tree = DraftTree::chain(tokens);
        verifier
            .forward(&[TreeInput { seq, tree: &tree, rows: RowSelection::All }], &mut TopK::new(1))
            .expect("a pass");
        for node in 0..tree.len() {
            logits.extend_from_slice(verifier.logits(Row { input: 0, node }).expect("asked for"));
        }
        let path: Vec<NodeId> = tree.nodes().collect();
        verifier.commit(&[Commit { seq, path: &path }]).expect("a path");
    }
    logits
}

#[test]
fn logits_move_with_the_rows_of_a_pass_by_less_than_the_backend_states() {
    let texts = texts();
    for (name, model) in [("Q4_1", &Q4_1), ("Q8_0", &Q8_0), ("F16", &F16), ("F32", &F32)] {
        let stated = verifier(model).row_tolerance();
        for n in [2, 9, 48] {
            let moved =
                texts.iter().map(|text| apart(&in_chunks(model, text, 1), &in_chunks(model, text, n)));
            let most = moved.fold(0.0, f32::max);
            println!("{name}, {n} rows: logits move by at most {most:.1e} (stated: {stated:.0e})");
            assert!(most < stated, "{name}, {n} rows: {most}");
        }
    }
}

#[test]
fn options_change_rounding_and_nothing_else() {
    let text = &texts()[0];
    let reference = in_chunks(&Q4_1, text, 27);
    let stated = verifier(&Q4_1).row_tolerance();
    let changed = [
        Options { flash_attn: FlashAttention::Off, ..options(200) },
        Options { flash_attn: FlashAttention::On, ..options(200) },
        Options { cache_type_k: CacheType::F32, cache_type_v: CacheType::F32, ..options(200) },
        Options { cache_type_k: CacheType::Q8_0, cache_type_v: CacheType::Q8_0, ..options(200) },
        Options { n_ubatch: 8.try_into().expect("not 0"), ..options(200) },
        Options { mmap: false, threads_batch: 1.try_into().ok(), n_gpu_layers: Some(0), ..options(200) },
    ];
    for options in changed {
        let model = load(&real_model(), &options);
        let most = apart(&reference, &in_chunks(&model, text, 27));
        println!("{most:.1e} with {options:?}");
        assert!(most < stated, "{most} with {options:?}");
    }
}

#[test]
fn two_verifiers_of_one_model_run_side_by_side() {
    let texts = texts();
    let alone: Vec<_> = texts.iter().take(2).map(|text| in_chunks(&Q4_1, text, 5)).collect();
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            texts.iter().take(2).map(|text| scope.spawn(|| in_chunks(&Q4_1, text, 5))).collect();
        for (thread, alone) in threads.into_iter().zip(&alone) {
            // The same passes, and so the same rounding.
            assert_eq!(&thread.join().expect("no panic"), alone);
        }
    });
}
