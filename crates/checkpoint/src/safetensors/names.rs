//! Names of tensors in GGUF files and in safetensors.

/// Tensors of a layer: the name in GGUF files, and in safetensors.
const LAYER: [(&str, &str); 11] = [
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_q_norm", "self_attn.q_norm"),
    ("attn_k_norm", "self_attn.k_norm"),
    ("attn_output", "self_attn.o_proj"),
    ("ffn_norm", "post_attention_layernorm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];

/// Tensors outside of layers.
const GLOBAL: [(&str, &str); 3] = [
    ("token_embd.weight", "model.embed_tokens.weight"),
    ("output_norm.weight", "model.norm.weight"),
    ("output.weight", "lm_head.weight"),
];

/// The name in GGUF files of a tensor in safetensors; `None` if it is unknown.
pub(super) fn to_gguf(name: &str) -> Option<String> {
    if let Some((gguf, _)) = GLOBAL.iter().find(|(_, here)| *here == name) {
        return Some((*gguf).to_owned());
    }
    let (layer, part) = name.strip_prefix("model.layers.")?.split_once('.')?;
    let (part, kind) = part.rsplit_once('.')?;
    let (gguf, _) = LAYER.iter().find(|(_, here)| *here == part)?;
    let number: usize = layer.parse().ok()?;
    // Refuse other spellings, such as `+1` or `01`.
    (number.to_string() == layer).then(|| format!("blk.{layer}.{gguf}.{kind}"))
}

/// The name in safetensors of a tensor in GGUF files; `None` if it is unknown.
pub(super) fn from_gguf(name: &str) -> Option<String> {
    if let Some((_, here)) = GLOBAL.iter().find(|(gguf, _)| *gguf == name) {
        return Some((*here).to_owned());
    }
    let (layer, part) = name.strip_prefix("blk.")?.split_once('.')?;
    let (part, kind) = part.rsplit_once('.')?;
    let (_, here) = LAYER.iter().find(|(gguf, _)| *gguf == part)?;
    Some(format!("model.layers.{layer}.{here}.{kind}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_translate_both_ways() {
        let parts =
            LAYER.iter().flat_map(|(gguf, _)| ["weight", "bias"].map(|kind| format!("blk.12.{gguf}.{kind}")));
        for name in parts.chain(GLOBAL.iter().map(|(gguf, _)| (*gguf).to_owned())) {
            let here = from_gguf(&name).unwrap();
            assert_eq!(to_gguf(&here).as_ref(), Some(&name), "{here}");
        }
        let unknown = [
            "blk.0.attn_q.weight",
            "model.layers.01.mlp.up_proj.weight",
            "model.layers.+1.mlp.up_proj.weight",
        ];
        for name in unknown.into_iter().chain(["score.weight", "model.layers.0.mlp.experts.0.up_proj.weight"])
        {
            assert_eq!(to_gguf(name), None, "{name}");
        }
    }
}
