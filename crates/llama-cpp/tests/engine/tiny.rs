//! The laws on tiny models with random weights: some whose cells can be rolled back, and some whose cache is filled again.

use std::sync::{Arc, LazyLock};

use upcycle_checkpoint::gguf::write::GgufWriter;
use upcycle_checkpoint::gguf::{GgmlType, StringArray};
use upcycle_core::{TreeKind, Verifier};
use upcycle_llama_cpp::Model;
use upcycle_testkit::tiny::{Tiny, random, write};
use upcycle_testkit::{Subject, Tolerance};

use crate::support::{load, options, verifier};

/// A model, and the same model with a row of weights that overflows.
type Pair = LazyLock<[Arc<Model>; 2]>;

fn pair(tiny: &Tiny) -> [Arc<Model>; 2] {
    let poisoned = Tiny { poisoned: Some("blk.0.ffn_up.weight"), ..tiny.clone() };
    [tiny, &poisoned].map(|tiny| {
        let mut writer = tiny.writer(None);
        if tiny.architecture == "gemma2" {
            writer = writer.metadata("gemma2.attention.sliding_window", 8_u32);
        }
        load(write(&writer).path(), &options(160))
    })
}

/// At the backend's stated tolerance.
fn within(pair: &'static Pair) -> Subject {
    let [sound, poisoned] = [&pair[0], &pair[1]];
    let stated = verifier(sound).row_tolerance();
    Subject::new(move || verifier(sound))
        .not_finite(move || verifier(poisoned))
        .tolerance(Tolerance::Within(stated))
}

macro_rules! laws {
    ($($name:ident, $pair:ident, $shape:ident: $make:expr;)*) => {$(
        static $pair: Pair = LazyLock::new(|| $make);
        upcycle_testkit::conformance! {
            mod $name;
            subject: || {
                let subject = within(&$pair);
                assert_eq!(subject.make().limits().support.kind(), TreeKind::$shape);
                subject
            },
            exempt: [],
        }
    )*};
}

/// A separate output matrix, and several query heads per KV head.
fn odd() -> Tiny {
    Tiny { width: 96, heads: 6, kv_heads: 2, vocab: 77, untied: true, ..Tiny::default() }
}

laws! {
    llama, LLAMA, Tree: pair(&Tiny::default());
    odd_llama, ODD, Tree: pair(&odd());
    qwen2, QWEN2, Tree: pair(&Tiny { architecture: "qwen2", ..Tiny::default() });
    qwen3, QWEN3, Tree: pair(&Tiny { architecture: "qwen3", ..Tiny::default() });
    sliding_window, GEMMA2, Plain: pair(&Tiny { architecture: "gemma2", ..Tiny::default() });
    recurrent, MAMBA, Plain: [false, true].map(|poisoned| load(write(&mamba(poisoned)).path(), &options(160)));
}

/// A tiny Mamba model: a state without attention.
fn mamba(poisoned: bool) -> GgufWriter {
    const VOCAB: u32 = 96;
    let (width, inner, state, conv, rank) = (64, 128, 8, 4, 4);
    let texts: StringArray =
        (0..VOCAB).map(|id| char::from_u32(0x4e00 + id).unwrap_or('x').to_string()).collect();
    let mut writer = GgufWriter::new()
        .metadata("general.architecture", "mamba")
        .metadata("tokenizer.ggml.model", "gpt2")
        .metadata("tokenizer.ggml.pre", "gpt-2")
        .metadata("tokenizer.ggml.tokens", texts)
        .metadata("tokenizer.ggml.token_type", vec![1; VOCAB as usize])
        .metadata("tokenizer.ggml.merges", StringArray::new())
        .metadata("tokenizer.ggml.eos_token_id", 1_u32)
        .metadata("mamba.attention.layer_norm_rms_epsilon", 1e-5_f32);
    let sizes = [
        ("embedding_length", width),
        ("feed_forward_length", 0),
        ("block_count", 2),
        ("attention.head_count", 0),
        ("context_length", 160),
        ("ssm.conv_kernel", conv),
        ("ssm.inner_size", inner),
        ("ssm.state_size", state),
        ("ssm.time_step_rank", rank),
    ];
    for (part, size) in sizes {
        writer = writer.metadata(format!("mamba.{part}"), size as u32);
    }
    let mut tensors = vec![
        ("token_embd.weight".to_owned(), vec![width, VOCAB as usize]),
        ("output_norm.weight".to_owned(), vec![width]),
    ];
    for layer in 0..2 {
        let parts = [
            ("attn_norm.weight", vec![width]),
            ("ssm_in.weight", vec![width, 2 * inner]),
            ("ssm_conv1d.weight", vec![conv, inner]),
            ("ssm_conv1d.bias", vec![inner]),
            ("ssm_x.weight", vec![inner, rank + 2 * state]),
            ("ssm_dt.weight", vec![rank, inner]),
            ("ssm_dt.bias", vec![inner]),
            ("ssm_a", vec![state, inner]),
            ("ssm_d", vec![inner]),
            ("ssm_out.weight", vec![inner, width]),
        ];
        tensors.extend(parts.map(|(part, shape)| (format!("blk.{layer}.{part}"), shape)));
    }
    for (name, shape) in tensors {
        let mut numbers = random(&name, &shape);
        if name.ends_with("ssm_a") {
            // A state that fades.
            numbers.iter_mut().for_each(|number| *number = -number.abs() - 0.1);
        }
        if poisoned && name.ends_with("ssm_in.weight") {
            numbers[shape[0]..2 * shape[0]].fill(f32::MAX);
        }
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        let shape: Vec<u64> = shape.iter().map(|&size| size as u64).collect();
        writer = writer.tensor(name, GgmlType::F32, &shape, bytes);
    }
    writer
}
