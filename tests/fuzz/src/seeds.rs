//! Valid inputs to mutate.

use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use prost::Message as _;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, serialize};
use upcycle::{ConfigBuilder, Registry};
use upcycle_checkpoint::gguf::write::GgufWriter;
use upcycle_checkpoint::gguf::{GgmlType, Gguf, StringArray};
use upcycle_core::{AdjacencyMatrix, Candidates, CostCurve};
use upcycle_onnx::schema;
use upcycle_testkit::tiny::Tiny;
use upcycle_text::Tokenizer;

// The shape of the snapshots.
pub(crate) const VOCAB: usize = 64;
pub(crate) const K: usize = 4;
pub(crate) const FINGERPRINT: [u8; 32] = [7; 32];

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// All files of a folder in the repository with this extension, or any if it is empty.
pub(crate) fn files(folder: &str, ending: &str) -> Vec<Vec<u8>> {
    let entries = fs::read_dir(root().join(folder)).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| path.is_file()).collect();
    paths.retain(|path| ending.is_empty() || path.extension().is_some_and(|found| found == ending));
    paths.sort();
    paths.into_iter().filter_map(|path| fs::read(path).ok()).collect()
}

pub(crate) fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

fn writer(vocabulary: &str) -> GgufWriter {
    let tokens: StringArray =
        ["<unk>", "<|end|>", "a", "b", "c", "Ġ", "ab", "abc", "<0x41>", "▁a"].into_iter().collect();
    GgufWriter::new()
        .metadata("tokenizer.ggml.model", vocabulary)
        .metadata("tokenizer.ggml.pre", "llama-bpe")
        .metadata("tokenizer.ggml.tokens", tokens)
        .metadata("tokenizer.ggml.scores", vec![0.5_f32; 10])
        .metadata("tokenizer.ggml.token_type", vec![2, 3, 1, 1, 1, 1, 1, 1, 6, 1])
        .metadata("tokenizer.ggml.merges", ["a b", "ab c"].into_iter().collect::<StringArray>())
        .metadata("tokenizer.ggml.bos_token_id", 1_u32)
        .metadata("tokenizer.ggml.eos_token_id", 1_u32)
        .metadata("tokenizer.ggml.add_bos_token", true)
        .metadata(
            "tokenizer.chat_template",
            "{% for m in messages %}{{ m.role }}: {{ m.content }}{% endfor %}",
        )
        .metadata("general.architecture", "llama")
        .metadata("llama.rope.scaling.type", "yarn")
        .tensor("token_embd.weight", GgmlType::Q4_0, &[32, 3], vec![0; 54])
        .tensor("output_norm.weight", GgmlType::F32, &[32], vec![0; 128])
}

/// Headers with a vocabulary of each kind.
pub(crate) fn gguf() -> Vec<Vec<u8>> {
    let kinds = ["gpt2", "llama"];
    kinds.into_iter().filter_map(|kind| writer(kind).to_bytes().ok()).collect()
}

/// The smallest possible models.
pub(crate) fn models() -> Vec<Vec<u8>> {
    let tiny = Tiny { width: 32, heads: 2, kv_heads: 1, vocab: 8, context: 16, ..Tiny::default() };
    let architectures = ["llama", "qwen2", "qwen3"];
    let models =
        architectures.map(|architecture| Tiny { architecture, ..tiny.clone() }.writer(None).to_bytes());
    models.into_iter().flatten().collect()
}

pub(crate) fn snapshots() -> Vec<Vec<u8>> {
    let Ok(folder) = tempfile::tempdir() else { return Vec::new() };
    let path = folder.path().join("matrix");
    let kept = |rows: u32| {
        let mut matrix = AdjacencyMatrix::new(VOCAB, K).ok()?;
        for token in 0..rows {
            let ids = [token, 1, 2, 3];
            // Rows with the model's scores, and rows of which none are known.
            match token % 2 {
                0 => matrix.update_with_probabilities(
                    token,
                    &Candidates { ids: &ids, logits: &[3.0, 1.0, 0.5, 0.0], log_sum_exp: None },
                ),
                _ => matrix.update(token, &ids),
            }
        }
        matrix.save(&path, &FINGERPRINT).ok()?;
        fs::read(&path).ok()
    };
    [0, 5, VOCAB as u32].into_iter().filter_map(kept).collect()
}

/// Of a model that [`safetensors`] holds the tensors of.
pub(crate) const CHECKPOINT_CONFIG: &str = r#"{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 32,
"intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 8,
"rms_norm_eps": 1e-5, "rope_theta": 10000.0, "max_position_embeddings": 16, "tie_word_embeddings": true,
"rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
"original_max_position_embeddings": 8}}"#;

pub(crate) fn safetensors() -> Vec<Vec<u8>> {
    let layer = |part: &str| format!("model.layers.0.{part}.weight");
    let shapes = [
        ("model.embed_tokens.weight".to_owned(), vec![8, 32]),
        ("model.norm.weight".to_owned(), vec![32]),
        (layer("input_layernorm"), vec![32]),
        (layer("post_attention_layernorm"), vec![32]),
        (layer("self_attn.q_proj"), vec![32, 32]),
        (layer("self_attn.k_proj"), vec![16, 32]),
        (layer("self_attn.v_proj"), vec![16, 32]),
        (layer("self_attn.o_proj"), vec![32, 32]),
        (layer("mlp.gate_proj"), vec![32, 32]),
        (layer("mlp.up_proj"), vec![32, 32]),
        (layer("mlp.down_proj"), vec![32, 32]),
    ];
    let bytes: Vec<u8> = (0..1024_u16).flat_map(|value| f32::from(value % 64).to_le_bytes()).collect();
    let views = shapes.iter().filter_map(|(name, shape)| {
        let len = shape.iter().product::<usize>() * 4;
        let view = TensorView::new(Dtype::F32, shape.clone(), &bytes[..len]).ok()?;
        Some((name.as_str(), view))
    });
    serialize(views, None).into_iter().collect()
}

pub(crate) fn checkpoint_configs() -> Vec<Vec<u8>> {
    texts(&[CHECKPOINT_CONFIG])
}

/// The configurations in the repository without their model paths, and one with every key.
pub(crate) fn configurations() -> Vec<Vec<u8>> {
    let written = files("configs", "toml").into_iter().filter_map(|text| String::from_utf8(text).ok());
    let defaults =
        ConfigBuilder::new(&Registry::builtin()).build().ok().and_then(|config| config.to_toml().ok());
    let without = |text: String| -> String {
        text.lines().filter(|line| !line.starts_with("path")).flat_map(|line| [line, "\n"]).collect()
    };
    written.chain(defaults).map(|text| without(text).into_bytes()).collect()
}

pub(crate) fn trees() -> Vec<Vec<u8>> {
    files("configs/trees", "toml")
}

pub(crate) fn tokenizers() -> Vec<Vec<u8>> {
    let tokenizers = gguf().into_iter().filter_map(|bytes| {
        let gguf = Gguf::read(&mut Cursor::new(bytes)).ok()?;
        Tokenizer::from_gguf(&gguf).ok()?.to_json(None).ok()
    });
    // Sorted by key: the library's order changes from run to run.
    let ordered = tokenizers.filter_map(|(tokens, _)| {
        let mut value: serde_json::Value = serde_json::from_str(&tokens).ok()?;
        value.sort_all_objects();
        Some(value.to_string().into_bytes())
    });
    ordered.collect()
}

/// Templates with the constructs of real ones.
pub(crate) fn templates() -> Vec<Vec<u8>> {
    texts(&[
        "{{ bos_token }}{% for message in messages %}{% if loop.first and message['role'] != 'system' %}{{ 'x' }}{% endif %}\
         {{ '<|' + message['role'] + '|>' + message['content'] | trim + eos_token }}{% endfor %}\
         {% if add_generation_prompt %}{{ 'a' }}{% endif %}",
        "{%- set ns = namespace(n=0) -%}{%- for m in messages[::-1] -%}{%- set ns.n = ns.n + 1 -%}\
         {{ m.content.split('a')[-1].rstrip('\\n').lstrip() }}{{ ns.n }}{%- endfor -%}{{ tools | tojson }}",
        "{% macro part(m, n) %}{{ m.role | upper }}{{ m.content * n }}{% endmacro %}{% for m in messages %}\
         {{ part(m, loop.index0 % 3) }}{% if m.role == 'tool' %}{{ raise_exception('no') }}{% endif %}{% endfor %}\
         {{ strftime_now('%d %b %Y') }}",
        "{% for i in range(9) %}{% for m in messages %}{% if i is divisibleby 2 %}{% continue %}{% endif %}{{ m }}\
         {% if i > 5 %}{% break %}{% endif %}{% endfor %}{% endfor %}",
        "{% macro count(s, m) %}{% set s.n = s.n + 1 %}{{ caller(s) }}{% endmacro %}{% set state = namespace(n=0, m=[]) %}\
         {% for m in messages %}{% call(t) count(state, m) %}{% set t.m = [t.m, t.n] %}{{ t.m }}{% endcall %}{% endfor %}\
         {{ state.get('n') }}{{ state.m | tojson }}",
    ])
}

pub(crate) fn prompts() -> Vec<Vec<u8>> {
    texts(&[
        "{\"question_id\": 1, \"category\": \"a\", \"turns\": [\"x\", \"y\"]}\n\n{\"question_id\": \"b\", \"turns\": [\"z\"]}\n",
        "{\"question_id\": 81, \"category\": \"writing\", \"turns\": [\"\\u00e9 \\ud83e\\udd80\"], \"reference\": [1, null]}",
    ])
}

pub(crate) fn costs() -> Vec<Vec<u8>> {
    let curve = CostCurve::new(
        "key".to_owned(),
        vec![(64, vec![(1, 0.001), (2, 0.0011), (8, 0.002)]), (1024, vec![(1, 0.002), (16, 0.01)])],
    );
    curve.map(|curve| curve.to_toml().into_bytes()).into_iter().collect()
}

pub(crate) fn results() -> Vec<Vec<u8>> {
    // The smallest alone: every input is read and written out whole.
    files("docs/notes/results/zen4", "json").into_iter().min_by_key(Vec::len).into_iter().collect()
}

pub(crate) fn graphs() -> Vec<Vec<u8>> {
    let named = |name: &str| schema::ValueInfo { name: name.to_owned(), ..schema::ValueInfo::default() };
    let node = schema::Node {
        inputs: vec!["a".to_owned(), "b".to_owned()],
        outputs: vec!["c".to_owned()],
        operator: "MatMul".to_owned(),
        ..schema::Node::default()
    };
    let graph = schema::Graph {
        nodes: vec![node; 3],
        name: "graph".to_owned(),
        inputs: vec![named("a"), named("b")],
        outputs: vec![named("c")],
        ..schema::Graph::default()
    };
    let small = schema::Model { graph: Some(graph), ..schema::Model::default() }.encode_to_vec();
    let exported = include_bytes!("../../../crates/ort/tests/fixtures/rewrite/genai-llama-int4/model.onnx");
    vec![small, exported.to_vec()]
}

pub(crate) fn chat_bodies() -> Vec<Vec<u8>> {
    texts(&[
        r#"{"messages": [{"role": "user", "content": "ab"}], "max_tokens": 4}"#,
        r#"{"model": "default", "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": [{"type": "text", "text": "\u00e9"}]},
         {"role": "assistant", "content": null}], "max_completion_tokens": 3, "stream": true, "stream_options": {"include_usage": true},
         "n": 2, "seed": -1, "stop": ["x", "yz"], "temperature": 0.7, "top_p": 0.9, "top_k": -1, "min_p": 0.05, "repetition_penalty": 1.1,
         "ignore_eos": true, "cache_salt": "a", "mark_drafted": true, "user": "u", "tools": [], "response_format": {"type": "text"}}"#,
    ])
}

pub(crate) fn completion_bodies() -> Vec<Vec<u8>> {
    texts(&[
        r#"{"prompt": "ab", "max_tokens": 4, "temperature": 0, "echo": false, "best_of": 1}"#,
        r#"{"prompt": ["a", "<end>"], "max_tokens": 2, "n": 2, "stop": "x", "stream": true, "stream_options": {"include_usage": true}}"#,
        r#"{"prompt": [65, 66, 256], "max_tokens": 3, "seed": 9223372036854775807}"#,
        r#"{"prompt": [[65], [66, 67]], "max_tokens": 0, "temperature": 2.5}"#,
    ])
}

pub(crate) fn response_bodies() -> Vec<Vec<u8>> {
    texts(&[
        r#"{"input": "ab", "instructions": "c", "max_output_tokens": 4, "text": {"format": {"type": "text"}}}"#,
        r#"{"input": [{"role": "user", "content": [{"type": "input_text", "text": "a"}]}], "max_output_tokens": 2, "stream": true,
         "background": false, "temperature": 0.5, "top_p": 0.5}"#,
    ])
}

pub(crate) fn tokenize_bodies() -> Vec<Vec<u8>> {
    texts(&[
        r#"{"prompt": "a \u00e9 <end>"}"#,
        r#"{"content": "abc", "add_special": true}"#,
        r#"{"messages": [{"role": "user", "content": "a"}]}"#,
    ])
}

pub(crate) fn detokenize_bodies() -> Vec<Vec<u8>> {
    texts(&[r#"{"tokens": [65, 66, 200, 256]}"#, r#"{"tokens": []}"#])
}
