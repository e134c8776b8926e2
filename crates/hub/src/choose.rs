//! Which files of a repository make its model.

use crate::{HubError, Reference};

/// What says which model a folder of safetensors is.
pub(crate) const CONFIG: &str = "config.json";

/// The files to fetch, the one first that the model is loaded by.
pub(crate) fn files(reference: &Reference, names: &[String]) -> Result<Vec<String>, HubError> {
    let has = |name: &str| names.iter().any(|found| found == name);
    let top = || names.iter().filter(|name| !name.contains('/'));
    let tensors: Vec<&String> = top().filter(|name| is_tensors(name)).collect();
    if has(CONFIG) && !tensors.is_empty() {
        let beside = top().filter(|name| is_beside(name));
        return Ok([CONFIG.to_owned()]
            .into_iter()
            .chain(beside.cloned())
            .chain(tensors.into_iter().cloned())
            .collect());
    }
    let gguf: Vec<&String> = names.iter().filter(|name| name.ends_with(".gguf")).collect();
    match gguf[..] {
        [one] => Ok(vec![one.clone()]),
        [] => Err(HubError::Which {
            what: reference.to_string(),
            found: "neither a GGUF file nor safetensors with a config.json".to_owned(),
        }),
        ref several => {
            let mut shown: Vec<&str> = several.iter().take(12).map(|name| name.as_str()).collect();
            if several.len() > shown.len() {
                shown.push("…");
            }
            let found = format!("{} GGUF files ({})", several.len(), shown.join(", "));
            Err(HubError::Which { what: reference.to_string(), found })
        }
    }
}

/// `model.safetensors`, or its shards: not the same weights in another type or shape beside them.
fn is_tensors(name: &str) -> bool {
    name == "model.safetensors" || name.starts_with("model-") && name.ends_with(".safetensors")
}

/// What a model's text layer reads, and the index of shards.
fn is_beside(name: &str) -> bool {
    matches!(
        name,
        "model.safetensors.index.json"
            | "tokenizer.json"
            | "tokenizer_config.json"
            | "generation_config.json"
            | "special_tokens_map.json"
            | "chat_template.jinja"
            | "chat_template.json"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(names: &[&str]) -> Result<Vec<String>, HubError> {
        let reference = Reference::parse("hf:a/b").unwrap().unwrap();
        files(&reference, &names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn a_folder_of_safetensors_comes_whole_and_nothing_else_of_it() {
        let names = [
            "README.md",
            "config.json",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model.safetensors.index.json",
            "onnx/model.onnx",
            "original/model.safetensors",
            "pytorch_model.bin",
            "tokenizer.json",
            "tf_model.h5",
            "x.gguf",
        ];
        let expected = [
            "config.json",
            "model.safetensors.index.json",
            "tokenizer.json",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
        ];
        assert_eq!(chosen(&names).unwrap(), expected);
    }

    #[test]
    fn of_gguf_files_one_alone_needs_no_name() {
        assert_eq!(chosen(&["config.json", "README.md", "m.gguf"]).unwrap(), ["m.gguf"]);
        let several = chosen(&["m.Q4_0.gguf", "m.Q8_0.gguf"]).unwrap_err().to_string();
        assert!(several.contains("2 GGUF files (m.Q4_0.gguf, m.Q8_0.gguf)"), "{several}");
        assert!(chosen(&["config.json", "model.bin"]).unwrap_err().to_string().contains("neither"));
    }
}
