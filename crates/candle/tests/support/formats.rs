//! Tiny models of every architecture in both formats, from the same numbers.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, serialize_to_file};
use serde_json::{Value, json};
use upcycle_candle::{CandleVerifier, LoadError, Model, Options, Products, Weights};
use upcycle_core::Verifier;
use upcycle_gguf::write::GgufWriter;
use upcycle_gguf::{Array, GgmlType, Value as GgufValue};
use upcycle_testkit::{Subject, Tolerance};

use super::{Scaling, Tiny, chain, options};

/// How a model is stored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Format {
    Gguf,
    /// A `config.json` and one file of safetensors.
    Folder,
    /// The same with an index and two files.
    Shards,
}

/// The laws hold exactly, whatever the type. What overflows sits where quantization of the activations could hide it.
pub(crate) fn exact(tiny: &Tiny, format: Format, products: Products, weights: Weights) -> Subject {
    let options = options(products, weights);
    let model = load(tiny, format, &options);
    let poisoned = Tiny { poisoned: Some("blk.0.ffn_up.weight"), ..tiny.clone() };
    let poisoned = load(&poisoned, format, &options);
    Subject::new(move || CandleVerifier::new(model.clone()))
        .not_finite(move || CandleVerifier::new(poisoned.clone()))
}

/// A model on candle's tensors, held to the laws within what the verifier states, or closer: the logits of tiny models are small.
pub(crate) fn on_tensors(tiny: &Tiny, format: Format) -> Subject {
    let model = load_tensors(tiny, format, Weights::File);
    let poisoned = Tiny { poisoned: Some("blk.0.ffn_up.weight"), ..tiny.clone() };
    let poisoned = load_tensors(&poisoned, format, Weights::File);
    let stated = CandleVerifier::new(model.clone()).row_tolerance().min(0.3);
    Subject::new(move || CandleVerifier::new(model.clone()))
        .not_finite(move || CandleVerifier::new(poisoned.clone()))
        .tolerance(Tolerance::Within(stated))
}

/// Writes and loads a model.
pub(crate) fn load(tiny: &Tiny, format: Format, options: &Options) -> Arc<Model> {
    written(tiny, format, |path| Model::load(path, options))
}

/// Writes a model and loads it onto the processor as candle's device.
pub(crate) fn load_tensors(tiny: &Tiny, format: Format, weights: Weights) -> Arc<Model> {
    let mut options = Options::default();
    options.weights = weights;
    written(tiny, format, |path| Model::load_on(path, &options, candle_core::Device::Cpu, &mut |_, _| ()))
}

fn written(
    tiny: &Tiny,
    format: Format,
    load: impl FnOnce(&Path) -> Result<Arc<Model>, LoadError>,
) -> Arc<Model> {
    // The maps outlive the names.
    let loaded = if format == Format::Gguf {
        load(tiny.write().path())
    } else {
        let folder = tempfile::tempdir().expect("a temporary folder");
        write(tiny, folder.path(), format == Format::Shards);
        load(folder.path())
    };
    loaded.unwrap_or_else(|error| panic!("{tiny:?}: {}", chain(&error)))
}

/// What a GGUF file says of rotation and windows.
pub(crate) fn rope_and_window(tiny: &Tiny, mut writer: GgufWriter) -> GgufWriter {
    let key = |part: &str| format!("{}.{part}", tiny.architecture());
    writer = match tiny.scaling {
        Scaling::None => writer,
        Scaling::Linear => {
            writer.metadata(key("rope.scaling.type"), "linear").metadata(key("rope.scaling.factor"), 2.0_f32)
        }
        Scaling::Yarn => writer
            .metadata(key("rope.scaling.type"), "yarn")
            .metadata(key("rope.scaling.factor"), 4.0_f32)
            .metadata(key("rope.scaling.original_context_length"), 16_u32),
        Scaling::Llama3 => {
            let divisors = llama3_divisors(tiny.head() / 2);
            let bytes: Vec<u8> = divisors.iter().flat_map(|divisor| divisor.to_le_bytes()).collect();
            writer.tensor("rope_freqs.weight", GgmlType::F32, &[divisors.len() as u64], bytes)
        }
    };
    let Some((positions, first)) = tiny.window else { return writer };
    writer = writer.metadata(key("attention.sliding_window"), positions);
    if first == 0 {
        return writer;
    }
    let layers = (0..tiny.layers).map(|layer| layer >= first).collect();
    writer.metadata(key("attention.sliding_window_pattern"), GgufValue::Array(Array::Bool(layers)))
}

/// What llama.cpp's converter writes for `rope_type = "llama3"`.
fn llama3_divisors(pairs: usize) -> Vec<f32> {
    let (factor, low, high, context) = (8.0_f64, 1.0, 4.0, 32.0);
    let divisor = |pair: usize| {
        let wave = std::f64::consts::TAU * 10_000_f64.powf(pair as f64 / pairs as f64);
        if wave < context / high {
            1.0
        } else if wave > context / low {
            factor
        } else {
            let smooth = (context / wave - low) / (high - low);
            1.0 / ((1.0 - smooth) / factor + smooth)
        }
    };
    (0..pairs).map(|pair| divisor(pair) as f32).collect()
}

/// The `config.json`.
pub(crate) fn config(tiny: &Tiny) -> Value {
    let class = match tiny.family {
        "llama" => "LlamaForCausalLM",
        "mistral" => "MistralForCausalLM",
        "qwen2" => "Qwen2ForCausalLM",
        "qwen3" => "Qwen3ForCausalLM",
        other => panic!("no model of {other}"),
    };
    let mut config = json!({
        "architectures": [class],
        "model_type": tiny.family,
        "hidden_size": tiny.width,
        "intermediate_size": tiny.feed_forward,
        "num_hidden_layers": tiny.layers,
        "num_attention_heads": tiny.heads,
        "num_key_value_heads": tiny.kv_heads,
        "head_dim": tiny.head(),
        "vocab_size": tiny.vocab,
        "max_position_embeddings": tiny.context,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": !tiny.untied,
        "torch_dtype": "float32",
    });
    let scaling = match tiny.scaling {
        Scaling::None => Value::Null,
        Scaling::Linear => json!({ "type": "linear", "factor": 2.0 }),
        Scaling::Llama3 => json!({
            "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32,
        }),
        Scaling::Yarn => {
            json!({ "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16 })
        }
    };
    config["rope_scaling"] = scaling;
    match (tiny.family, tiny.window) {
        ("mistral", window) => {
            config["sliding_window"] = window.map_or(Value::Null, |(positions, _)| positions.into());
        }
        (_, Some((positions, first))) => {
            config["use_sliding_window"] = true.into();
            config["sliding_window"] = positions.into();
            config["max_window_layers"] = first.into();
        }
        (_, None) => {}
    }
    config
}

/// Writes the model as a folder, in one file or in two with an index.
pub(crate) fn write(tiny: &Tiny, folder: &Path, shards: bool) {
    std::fs::write(folder.join("config.json"), config(tiny).to_string()).expect("to write");
    let tensors: Vec<_> = tiny
        .tensors()
        .into_iter()
        .map(|(name, dtype, shape)| {
            let (dtype, mut bytes) = tiny.bytes(&name, dtype, &shape);
            if tiny.architecture() == "llama" && (name.contains("attn_q.") || name.contains("attn_k.")) {
                bytes = in_halves(&bytes, bytes.len() / shape[1], tiny.head());
            }
            let dtype = match dtype {
                GgmlType::F32 => Dtype::F32,
                GgmlType::F16 => Dtype::F16,
                GgmlType::Bf16 => Dtype::BF16,
                other => panic!("safetensors have no {other}"),
            };
            (name_in_folder(&name), dtype, shape.into_iter().rev().collect::<Vec<_>>(), bytes)
        })
        .collect();
    let save = |file: &str, tensors: &[(String, Dtype, Vec<usize>, Vec<u8>)]| {
        let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
            (name, TensorView::new(*dtype, shape.clone(), bytes).expect("a sound tensor"))
        });
        let format = std::collections::HashMap::from([("format".to_owned(), "pt".to_owned())]);
        serialize_to_file(views, Some(format), &folder.join(file)).expect("to write");
    };
    if !shards {
        save("model.safetensors", &tensors);
        return;
    }
    let halves = tensors.split_at(tensors.len() / 2);
    let mut map = BTreeMap::new();
    for (number, half) in [halves.0, halves.1].into_iter().enumerate() {
        let file = format!("model-{:05}-of-00002.safetensors", number + 1);
        save(&file, half);
        map.extend(half.iter().map(|(name, ..)| (name.clone(), file.clone())));
    }
    let index = json!({ "metadata": {}, "weight_map": map });
    std::fs::write(folder.join("model.safetensors.index.json"), index.to_string()).expect("to write");
}

/// llama's rows in GGUF files stand as neighbours turn, `2i` and `2i + 1`: back to `i` and `i + head / 2`.
fn in_halves(bytes: &[u8], row_bytes: usize, head: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    for head in bytes.chunks_exact(head * row_bytes) {
        for first in [0, 1] {
            out.extend(head.chunks_exact(row_bytes).skip(first).step_by(2).flatten());
        }
    }
    out
}

fn name_in_folder(name: &str) -> String {
    let parts = [
        ("blk.", "model.layers."),
        ("attn_norm", "input_layernorm"),
        ("attn_q_norm", "self_attn.q_norm"),
        ("attn_k_norm", "self_attn.k_norm"),
        ("attn_output", "self_attn.o_proj"),
        ("attn_q", "self_attn.q_proj"),
        ("attn_k", "self_attn.k_proj"),
        ("attn_v", "self_attn.v_proj"),
        ("ffn_norm", "post_attention_layernorm"),
        ("ffn_gate", "mlp.gate_proj"),
        ("ffn_up", "mlp.up_proj"),
        ("ffn_down", "mlp.down_proj"),
        ("token_embd", "model.embed_tokens"),
        ("output_norm", "model.norm"),
    ];
    let name = if name == "output.weight" { "lm_head.weight".to_owned() } else { name.to_owned() };
    parts.into_iter().fold(name, |name, (gguf, here)| name.replace(gguf, here))
}
