//! Damaged files, each loaded and used in a child process with a trial, as the program does it. No file may end that process.
//!
//! `UPCYCLE_DAMAGED_FILES` sets how many files there are, and `UPCYCLE_DAMAGED_FROM` the first. With `UPCYCLE_DAMAGED_BARE` the
//! children make no trials, which shows what llama.cpp ends the process for.

use std::ops::Range;
use std::path::Path;
use std::process::ExitCode;

use upcycle_checkpoint::gguf::write::GgufWriter;
use upcycle_checkpoint::gguf::{GgmlType, StringArray, Value};
use upcycle_checkpoint::trial::try_loads_in;
use upcycle_core::{DraftTree, RowSelection, TopK, TreeInput, Verifier};
use upcycle_llama_cpp::{LlamaVerifier, Model, Options, Vocabulary, answer_trial};
use upcycle_testkit::damaged::{Progress, use_in_children};
use upcycle_testkit::tiny::{Scaling, Tiny};

/// Files of a run in the normal suite.
const FILES: u64 = 40;

const TRIAL: &str = "--trial";

fn main() -> ExitCode {
    if std::env::args().nth(1).is_some_and(|argument| argument == TRIAL) {
        return answer_trial();
    }
    use_in_children(FILES, use_files)
}

fn use_files(files: Range<u64>, report: &mut dyn FnMut(Progress)) {
    if std::env::var_os("UPCYCLE_DAMAGED_BARE").is_none() {
        let program = std::env::current_exe().expect("the path of this program");
        try_loads_in(program, vec![TRIAL.to_owned()]);
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.gguf");
    for number in files {
        report(Progress::File(number));
        std::fs::write(&path, damaged(number)).expect("to write");
        if use_file(&path, number).is_ok() {
            report(Progress::Usable);
        }
    }
}

/// Loads a file, splits texts, and scores a tree twice.
fn use_file(path: &Path, number: u64) -> Result<(), Box<dyn std::error::Error>> {
    if let Ok(vocabulary) = Vocabulary::load(path) {
        let _ = vocabulary.pieces();
        for text in ["Hello, world!\n", "你好 😀", "\u{4e01}\u{4e02}", "\0"] {
            let _ = vocabulary.tokenize(text, number.is_multiple_of(2));
        }
    }
    let options = Options { threads: 1.try_into().ok(), n_ctx: 64.try_into().ok(), ..Options::default() };
    let mut verifier = LlamaVerifier::new(Model::load(path, &options)?)?;
    let vocab = verifier.limits().vocab as u32;
    let seq = verifier.open()?;
    for token in [0, vocab - 1] {
        let tree = DraftTree::chain(&[token]);
        verifier.forward(&[TreeInput { seq, tree: &tree, rows: RowSelection::All }], &mut TopK::new(1))?;
    }
    Ok(())
}

/// A sound file of one of several kinds.
fn sound(rng: &mut fastrand::Rng) -> GgufWriter {
    let tiny = Tiny { layers: 1, vocab: 300, ..Tiny::default() };
    let tiny = match rng.u8(..8) {
        0 => Tiny { architecture: "qwen2", ..tiny },
        1 => Tiny { architecture: "qwen3", untied: true, ..tiny },
        2 => Tiny { architecture: "gemma2", window: Some((8, 0)), ..tiny },
        3 => Tiny { scaling: Scaling::Yarn, ..tiny },
        4 => Tiny { scaling: Scaling::Llama3, attention: GgmlType::F16, ..tiny },
        _ => tiny,
    };
    let kinds = ["gpt2", "llama", "gemma4", "t5", "bert", "rwkv", "plamo2", "none"];
    let kind = if rng.bool() { "gpt2" } else { kinds[rng.usize(..kinds.len())] };
    let bytes = (0..=255_u8).map(|byte| format!("<0x{byte:02X}>"));
    let tokens: StringArray =
        bytes.chain((0..44_u32).map(|id| char::from_u32(0x4e00 + id).unwrap_or('x').to_string())).collect();
    let mut types = vec![6; 256];
    types.resize(300, 1);
    let vocabulary = GgufWriter::new()
        .metadata("tokenizer.ggml.model", kind)
        .metadata("tokenizer.ggml.pre", ["gpt-2", "default", "qwen2", "llama-bpe"][rng.usize(..4)])
        .metadata("tokenizer.ggml.tokens", tokens)
        .metadata("tokenizer.ggml.scores", vec![0.5_f32; 300])
        .metadata("tokenizer.ggml.token_type", types)
        .metadata("tokenizer.ggml.merges", ["\u{4e00} \u{4e01}"].into_iter().collect::<StringArray>())
        .metadata("tokenizer.ggml.unknown_token_id", 259_u32)
        .metadata("tokenizer.ggml.bos_token_id", 257_u32)
        .metadata("tokenizer.ggml.eos_token_id", 258_u32);
    tiny.with_vocabulary(vocabulary, None)
}

/// Keys that llama.cpp reads although the sound files have none of them.
const MORE_KEYS: &[&str] = &[
    "general.alignment",
    "split.count",
    "llama.expert_count",
    "llama.expert_used_count",
    "llama.attention.sliding_window",
    "llama.attention.key_length_mla",
    "llama.attention.layer_norm_epsilon",
    "llama.attention.clamp_kqv",
    "llama.attention.max_alibi_bias",
    "llama.rope.scaling.attn_factor",
    "llama.rope.dimension_sections",
    "llama.ssm.conv_kernel",
    "llama.pooling_type",
    "llama.nextn_predict_layers",
    "llama.leading_dense_block_count",
    "llama.use_parallel_residual",
    "general.sampling.top_k",
    "tokenizer.ggml.add_bos_token",
    "tokenizer.ggml.eot_token_id",
    "tokenizer.ggml.precompiled_charsmap",
    "tokenizer.ggml.suppress_tokens",
    "tokenizer.ggml.token_type_count",
];

/// Values that are at an edge, or of another type.
fn value(rng: &mut fastrand::Rng) -> Value {
    let numbers =
        [0, 1, 2, 3, 7, 31, 32, 33, 63, 65, 255, 511, 513, 1 << 16, (1 << 31) - 1, 1 << 31, u32::MAX];
    let number = numbers[rng.usize(..numbers.len())];
    match rng.u8(..12) {
        0..5 => Value::U32(number),
        5 => Value::I32(number as i32),
        6 => Value::U64(u64::from(number) << rng.u8(..32)),
        7 => Value::F32([0.0, -1.0, 1e-30, 1e30, f32::NAN, f32::INFINITY][rng.usize(..6)]),
        8 => Value::Bool(rng.bool()),
        9 => vec![number as i32; rng.usize(..400)].into(),
        10 => Value::String(["", "linear", "llama", "longrope", "x\0y"][rng.usize(..5)].to_owned()),
        _ => {
            ["a", "a", "", " ", "a b", "\0"].into_iter().take(rng.usize(..7)).collect::<StringArray>().into()
        }
    }
}

/// The file of this number.
fn damaged(number: u64) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(number);
    let sound = sound(&mut rng).to_bytes().expect("a sound file");
    let mut file = sound;
    for _ in 0..rng.usize(..3) {
        file = match rng.u8(..4) {
            0 | 1 => change_value(file, &mut rng),
            2 => change_bytes(file, &mut rng),
            _ => change_tensor(file, &mut rng),
        };
    }
    if rng.u8(..16) == 0 {
        file.truncate(rng.usize(..file.len()));
    }
    file
}

/// Replaces or adds a value, by writing the file again.
fn change_value(file: Vec<u8>, rng: &mut fastrand::Rng) -> Vec<u8> {
    rewritten(&file, |metadata, _| {
        let value = value(rng);
        if rng.u8(..3) == 0 {
            metadata.push((MORE_KEYS[rng.usize(..MORE_KEYS.len())].to_owned(), value));
        } else {
            let at = rng.usize(..metadata.len());
            if rng.u8(..4) == 0 {
                metadata.remove(at);
            } else {
                metadata[at].1 = value;
            }
        }
    })
    .unwrap_or(file)
}

/// Renames a tensor, or changes its type or shape.
fn change_tensor(file: Vec<u8>, rng: &mut fastrand::Rng) -> Vec<u8> {
    rewritten(&file, |_, tensors| {
        let at = rng.usize(..tensors.len());
        match rng.u8(..4) {
            0 => tensors[at].0.push('x'),
            1 => tensors[at].2.reverse(),
            2 => {
                let ids = [GgmlType::I8, GgmlType::I32, GgmlType::F16, GgmlType::Q8_0, GgmlType::Iq1M];
                tensors[at].1 = ids[rng.usize(..ids.len())];
            }
            _ => {
                tensors.remove(at);
            }
        }
    })
    .unwrap_or(file)
}

type Tensor = (String, GgmlType, Vec<u64>);

/// The file written again after a change; none for one that our reader or writer refuses.
fn rewritten(
    file: &[u8],
    change: impl FnOnce(&mut Vec<(String, Value)>, &mut Vec<Tensor>),
) -> Option<Vec<u8>> {
    let gguf = upcycle_checkpoint::gguf::Gguf::read(&mut std::io::Cursor::new(file)).ok()?;
    let mut metadata: Vec<_> = gguf.metadata().map(|(key, value)| (key.to_owned(), value.clone())).collect();
    let mut tensors: Vec<Tensor> = gguf
        .tensors()
        .iter()
        .map(|tensor| (tensor.name.clone(), tensor.dtype, tensor.shape.clone()))
        .collect();
    change(&mut metadata, &mut tensors);
    // The writer pads every tensor, so a larger alignment would make a file of gigabytes.
    let is_large = |value: &Value| value.as_integer().is_some_and(|alignment| alignment > 4096);
    if metadata.iter().any(|(key, value)| key == "general.alignment" && is_large(value)) {
        return None;
    }
    let writer =
        metadata.into_iter().fold(GgufWriter::new(), |writer, (key, value)| writer.metadata(key, value));
    let writer = tensors.into_iter().fold(writer, |writer, (name, dtype, shape)| {
        let bytes = shape.iter().product::<u64>() / dtype.block_size() * dtype.block_bytes();
        writer.tensor(name, dtype, &shape, vec![0x3c; bytes as usize])
    });
    writer.to_bytes().ok()
}

/// Overwrites bytes, more often in the header, which is at the start.
fn change_bytes(mut file: Vec<u8>, rng: &mut fastrand::Rng) -> Vec<u8> {
    let end = if rng.bool() { file.len().min(12_000) } else { file.len() };
    for _ in 0..rng.usize(1..6) {
        file[rng.usize(..end)] = [0, 1, 0x7f, 0x80, 0xff, rng.u8(..)][rng.usize(..6)];
    }
    file
}
