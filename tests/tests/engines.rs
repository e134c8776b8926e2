//! Compares this project's forward passes and exported graphs with llama.cpp.

use std::path::Path;
use std::sync::Arc;

use upcycle_checkpoint::gguf::GgmlType;
use upcycle_core::{
    Decoder, DraftTree, NullDrafter, Request, Row, RowSelection, TokenId, TopK, TreeInput, Verifier,
};
use upcycle_cpu::CpuVerifier;
use upcycle_kernels::{Format, Matrix};
use upcycle_llama_cpp::LlamaVerifier;
use upcycle_ort::OrtVerifier;
use upcycle_testkit::real_model;
use upcycle_testkit::tiny::{Tiny, write};
use upcycle_tests::reference;

fn llama_cpp(path: &Path) -> LlamaVerifier {
    let options = upcycle_llama_cpp::Options {
        n_ctx: 512.try_into().ok(),
        threads: 2.try_into().ok(),
        ..upcycle_llama_cpp::Options::default()
    };
    let model = upcycle_llama_cpp::Model::load(path, &options).expect("a model");
    LlamaVerifier::new(model).expect("a context")
}

fn cpu(path: &Path) -> CpuVerifier {
    CpuVerifier::new(upcycle_cpu::Model::load(path, &upcycle_cpu::Options::default()).expect("a model"))
}

/// The ids and logits of the best 8 of each row of a text, and the logits of its last row, `[vocab]`.
fn score(verifier: &mut dyn Verifier, text: &[TokenId]) -> (TopK, Vec<f32>) {
    let seq = verifier.open().expect("room for one");
    let tree = DraftTree::chain(text);
    let mut top = TopK::new(8);
    verifier.forward(&[TreeInput { seq, tree: &tree, rows: RowSelection::All }], &mut top).expect("a pass");
    let last = verifier.logits(Row { input: 0, node: text.len() - 1 }).expect("asked for").to_vec();
    verifier.close(seq);
    (top, last)
}

fn max_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// Scores `text` in both engines, and returns the largest difference of logits in the last row. The best 8 tokens of each row must
/// agree, except those within `tolerance` of the eighth; so must the best token, except at near-ties.
fn compare(a: &mut dyn Verifier, b: &mut dyn Verifier, text: &[TokenId], tolerance: f32) -> f32 {
    let ((top_a, last_a), (top_b, last_b)) = (score(a, text), score(b, text));
    for node in 0..text.len() {
        let row = Row { input: 0, node };
        let (a, b) = (top_a.get(row).expect("a row"), top_b.get(row).expect("a row"));
        for (one, other) in [(&a, &b), (&b, &a)] {
            let eighth = other.logits[other.logits.len() - 1];
            for (id, logit) in one.ids.iter().zip(one.logits) {
                let found = other.ids.iter().position(|other| other == id).map(|at| other.logits[at]);
                let near = found.map_or(logit - eighth, |found| (logit - found).abs());
                assert!(
                    near <= tolerance,
                    "token {id} at {node}: {logit}, and {found:?} in the other engine"
                );
            }
        }
        if a.logits[0] - a.logits[1] > 2.0 * tolerance {
            assert_eq!(a.ids[0], b.ids[0], "the best token at {node}");
        }
    }
    let most = max_difference(&last_a, &last_b);
    assert!(most <= tolerance, "logits differ by {most}");
    most
}

/// The tolerance for Q4_1: both engines round activations to 8 bits, in different ways.
const QUANTIZED: f32 = 2.5;

#[test]
fn cpu_and_llama_cpp_agree_on_the_real_model() {
    let path = real_model();
    let (mut cpu, mut llama) = (cpu(&path), llama_cpp(&path));
    let trace = reference::trace();
    let prompts: Vec<Vec<TokenId>> = trace
        .prompts
        .iter()
        .flat_map(|prompt| {
            let whole = [&prompt.prompt_ids[..], &prompt.output_ids].concat();
            [prompt.prompt_ids.clone(), whole[..whole.len().min(300)].to_vec()]
        })
        .collect();
    assert_eq!(prompts.len(), 20);
    let mut most = 0.0_f32;
    for prompt in &prompts {
        most = most.max(compare(&mut cpu, &mut llama, prompt, QUANTIZED));
    }
    println!("Q4_1: logits of the last rows of 20 texts differ by at most {most}");
}

#[test]
fn texts_of_cpu_and_llama_cpp_differ_only_at_near_ties() {
    let path = real_model();
    let mut plain = Decoder::new(cpu(&path), NullDrafter);
    let mut other = Decoder::new(llama_cpp(&path), NullDrafter);
    let (mut equal, mut all) = (0, 0);
    for prompt in &reference::trace().prompts {
        let prompt = &prompt.prompt_ids;
        let text = |tokens: Vec<Result<TokenId, _>>| -> Vec<TokenId> {
            tokens.into_iter().collect::<Result<_, upcycle_core::DecodeError>>().expect("a text")
        };
        let a = text(plain.generate(prompt, Request::greedy(48)).expect("a prompt").collect());
        let b = text(other.generate(prompt, Request::greedy(48)).expect("a prompt").collect());
        all += 1;
        let Some(at) = a.iter().zip(&b).position(|(a, b)| a != b) else {
            equal += 1;
            continue;
        };
        let before = [prompt, &a[..at]].concat();
        let (top, _) = score(plain.verifier_mut(), &before);
        let best = top.get(Row { input: 0, node: before.len() - 1 }).expect("a row");
        let gap = best.logits[0] - best.logits[1];
        assert!(gap <= 2.0 * QUANTIZED, "token {at}: the best two are {gap} apart");
    }
    println!("{equal} of {all} texts are equal");
}

/// The tolerance for weights in `f32`: the engines sum in different order.
const FLOAT: f32 = 0.05;

#[test]
fn tiny_models_of_three_architectures_agree() {
    let odd = Tiny { width: 96, heads: 6, kv_heads: 2, vocab: 77, untied: true, ..Tiny::default() };
    for tiny in [
        Tiny::default(),
        odd.clone(),
        Tiny { architecture: "qwen2", ..Tiny::default() },
        Tiny { architecture: "qwen3", ..odd },
    ] {
        let file = write(&tiny.writer(None));
        let parent = tempfile::tempdir().expect("a folder");
        let folder = parent.path().join("exported");
        upcycle_onnx::export::export(
            file.path(),
            &folder,
            upcycle_onnx::export::ExportOptions::default(),
            &mut |_, _| (),
        )
        .expect("a graph");
        let options = upcycle_ort::Options::default();
        let graph = upcycle_ort::Model::load(&folder, &options).expect("a graph");
        let mut engines: [(&str, Box<dyn Verifier>); 2] = [
            ("ONNX Runtime", Box::new(OrtVerifier::new(Arc::clone(&graph)))),
            ("cpu", Box::new(cpu(file.path()))),
        ];
        let mut llama = llama_cpp(file.path());
        for (name, engine) in &mut engines {
            for len in [1, 2, 9, 40, 120] {
                let text: Vec<TokenId> =
                    (0..len).map(|at| (at * 7919 + len * 31) % tiny.vocab as u32).collect();
                let most = compare(&mut **engine, &mut llama, &text, FLOAT);
                println!("{} in {name}, {len} tokens: {most:.1e}", tiny.architecture);
            }
        }
    }
}

/// The quantized types that the kernels read.
fn quantized_types() -> Vec<(Format, GgmlType)> {
    let type_of = |format: Format| {
        GgmlType::ALL.iter().copied().find(|dtype| dtype.name() == format.name()).expect("GGML's name")
    };
    let formats = Format::ALL.into_iter().filter(|format| format.is_quantized());
    formats.map(|format| (format, type_of(format))).collect()
}

/// Encodes rows of 256 values with GGML.
#[expect(unsafe_code, reason = "GGML is a library in C")]
fn encode(values: &[f32], dtype: GgmlType) -> Vec<u8> {
    assert!(values.len().is_multiple_of(256), "whole rows");
    let blocks = values.len() / dtype.block_size() as usize;
    let mut bytes = vec![0; blocks * dtype.block_bytes() as usize];
    let (from, to) = (values.as_ptr(), bytes.as_mut_ptr().cast());
    let rows = values.len() as i64 / 256;
    // SAFETY: both hold `rows` rows of 256 values, and these types take no importance matrix.
    let written =
        unsafe { llama_cpp_sys_2::ggml_quantize_chunk(dtype.id(), from, to, 0, rows, 256, std::ptr::null()) };
    assert_eq!(written, bytes.len(), "{dtype}");
    bytes
}

/// Decodes blocks with GGML.
#[expect(unsafe_code, reason = "GGML is a library in C")]
fn decode(bytes: &[u8], dtype: GgmlType) -> Vec<f32> {
    let count = bytes.len() / dtype.block_bytes() as usize * dtype.block_size() as usize;
    let mut values = vec![0.0; count];
    // SAFETY: GGML's tables are constants; the blocks are of this type, and there is room for their values.
    unsafe {
        let traits = &*llama_cpp_sys_2::ggml_get_type_traits(dtype.id());
        let to_float = traits.to_float.expect("a quantized type");
        to_float(bytes.as_ptr().cast(), values.as_mut_ptr(), count as i64);
    }
    values
}

#[test]
fn weights_are_those_that_ggml_reads() {
    let values: Vec<f32> =
        (0..6 * 256).map(|at| ((at * 7919 % 2003) as f32 / 1000.0 - 1.0).powi(3)).collect();
    for (format, dtype) in quantized_types() {
        let bytes = encode(&values, dtype);
        let matrix = Matrix::pack("w", format, (3, 512), &bytes, 1).expect("sound blocks");
        let mut row = vec![0.0; 512];
        for (index, expected) in decode(&bytes, dtype).chunks(512).enumerate() {
            matrix.gather(index, &mut row);
            let far = max_difference(&row, expected);
            // One of both may round a product and a sum at once.
            assert!(far < 1e-6, "{dtype}: row {index} differs by {far}");
        }
    }
}

#[test]
fn tiny_models_of_every_type_load_and_agree_with_llama_cpp() {
    for (_, dtype) in quantized_types() {
        let tiny = Tiny {
            width: 256,
            attention: dtype,
            ffn: dtype,
            embedding: dtype,
            quantize: encode,
            ..Tiny::default()
        };
        let file = write(&tiny.writer(None));
        let text: Vec<TokenId> = (0..40).map(|at| at * 7919 % tiny.vocab as u32).collect();
        let (mut cpu, mut llama) = (cpu(file.path()), llama_cpp(file.path()));
        let most = compare(&mut cpu, &mut llama, &text, QUANTIZED);
        println!("{dtype}: logits differ by at most {most:.1e}");
    }
}
