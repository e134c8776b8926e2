//! Tiny models as folders: a `config.json` and safetensors.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, serialize_to_file};
use serde_json::{Value, json};
use upcycle_checkpoint::gguf::GgmlType;

use super::{Scaling, Tiny};

/// A tensor in the layout of a GGUF file, to be written as safetensors.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Its name in a GGUF file.
    pub name: String,
    /// `F32`, `F16` or `BF16`.
    pub dtype: Dtype,
    /// Innermost dimension first.
    pub shape: Vec<usize>,
    /// Its numbers.
    pub bytes: Vec<u8>,
}

impl Tiny {
    /// The `config.json`.
    ///
    /// # Panics
    /// If `config.json` has no `model_type` for the architecture.
    #[must_use]
    pub fn config(&self) -> Value {
        let class = match self.architecture {
            "llama" => "LlamaForCausalLM",
            "mistral" => "MistralForCausalLM",
            "qwen2" => "Qwen2ForCausalLM",
            "qwen3" => "Qwen3ForCausalLM",
            other => panic!("no folders of {other}"),
        };
        let scaling = match self.scaling {
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
        let mut config = json!({
            "architectures": [class],
            "model_type": self.architecture,
            "hidden_size": self.width,
            "intermediate_size": self.feed_forward(),
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head(),
            "vocab_size": self.vocab,
            "max_position_embeddings": self.context,
            "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0,
            "rope_scaling": scaling,
            "hidden_act": "silu",
            "tie_word_embeddings": !self.untied,
            "torch_dtype": "float32",
        });
        match (self.architecture, self.window) {
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

    /// Writes the model into a folder, in one file or in two with an index.
    ///
    /// # Panics
    /// If a file cannot be written, or a type is not `F32`, `F16` or `BF16`.
    pub fn write_folder(&self, folder: &Path, shards: bool) {
        let stored = |(name, dtype, shape): (String, GgmlType, Vec<usize>)| {
            let bytes = self.bytes(&name, dtype, &shape);
            let dtype = match dtype {
                GgmlType::F32 => Dtype::F32,
                GgmlType::F16 => Dtype::F16,
                GgmlType::Bf16 => Dtype::BF16,
                other => panic!("safetensors have no {other}"),
            };
            Stored { name, dtype, shape, bytes }
        };
        fs::write(folder.join("config.json"), self.config().to_string()).expect("to write");
        write_safetensors(self, self.tensors().into_iter().map(stored).collect(), folder, shards);
    }
}

impl Tiny {
    /// Writes the text files of a model: a chat template and a byte-level tokenizer of printable ASCII. Token 1, `<|end|>`,
    /// ends a text. So does token 0, `<|start|>`, but only `generation_config.json` contains that.
    ///
    /// # Panics
    /// If a file cannot be written.
    pub fn write_text(&self, folder: &Path) {
        let specials = ["<|start|>", "<|end|>"];
        let more = (0x4e00..).filter_map(char::from_u32);
        let letters = ('!'..='~').chain(more).map(String::from);
        let tokens = specials.map(str::to_owned).into_iter().chain(letters).take(self.vocab);
        let vocab: BTreeMap<String, usize> = tokens.enumerate().map(|(id, token)| (token, id)).collect();
        let added = specials.iter().enumerate().map(|(id, content)| {
            json!({
                "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true,
            })
        });
        let bytes = json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true });
        let tokenizer = json!({
            "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "post_processor": null,
            "added_tokens": added.collect::<Vec<_>>(),
            "pre_tokenizer": bytes,
            "decoder": bytes,
            "model": {
                "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": vocab, "merges": [],
            },
        });
        let config = json!({ "eos_token": "<|end|>", "add_bos_token": false });
        let template = "{% for message in messages %}{{ message.content }}<|end|>{% endfor %}";
        let files = [
            ("tokenizer.json", tokenizer.to_string()),
            ("tokenizer_config.json", config.to_string()),
            ("generation_config.json", json!({ "eos_token_id": [0, 1] }).to_string()),
            ("chat_template.jinja", template.to_owned()),
        ];
        for (name, text) in files {
            fs::write(folder.join(name), text).expect("to write");
        }
    }
}

/// Writes tensors of a model as safetensors: with the names and, for llama's queries and keys, the row order of that format.
///
/// # Panics
/// If a file cannot be written, or a tensor has more or fewer bytes than its shape says.
pub fn write_safetensors(tiny: &Tiny, tensors: Vec<Stored>, folder: &Path, shards: bool) {
    let here = |mut tensor: Stored| {
        let turns = ["attn_q.", "attn_k."].iter().any(|part| tensor.name.contains(part));
        if turns && tiny.named() == "llama" {
            let rows = *tensor.shape.last().expect("a dimension");
            tensor.bytes = in_halves(&tensor.bytes, tensor.bytes.len() / rows, tiny.head());
        }
        tensor.name = name_in_folder(&tensor.name);
        tensor.shape.reverse();
        tensor
    };
    let tensors: Vec<Stored> = tensors.into_iter().map(here).collect();
    let save = |file: &str, tensors: &[Stored]| {
        let views = tensors.iter().map(|Stored { name, dtype, shape, bytes }| {
            (name, TensorView::new(*dtype, shape.clone(), bytes).expect("a valid tensor"))
        });
        let format = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        serialize_to_file(views, Some(format), &folder.join(file)).expect("to write");
    };
    if !shards {
        return save("model.safetensors", &tensors);
    }
    let halves = tensors.split_at(tensors.len() / 2);
    let mut map = BTreeMap::new();
    for (number, half) in [halves.0, halves.1].into_iter().enumerate() {
        let file = format!("model-{:05}-of-00002.safetensors", number + 1);
        save(&file, half);
        map.extend(half.iter().map(|tensor| (tensor.name.clone(), file.clone())));
    }
    let index = json!({ "metadata": {}, "weight_map": map });
    fs::write(folder.join("model.safetensors.index.json"), index.to_string()).expect("to write");
}

/// Restores the row order of llama's queries and keys: GGUF files rotate the rows `2i` and `2i + 1` together, safetensors the
/// rows `i` and `i + head / 2`.
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
