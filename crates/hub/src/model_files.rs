//! Selects the files of a repository that make up its model.

use crate::error::HubError;
use crate::reference::Reference;

/// The file that describes the model in a folder of safetensors.
pub(crate) const CONFIG: &str = "config.json";

/// The files to fetch; the first is the one to load.
///
/// # Errors
/// [`HubError::NoModel`], [`HubError::SeveralModels`].
pub(crate) fn select(reference: &Reference, names: &[String]) -> Result<Vec<String>, HubError> {
    let has = |name: &str| names.iter().any(|found| found == name);
    let top = || names.iter().filter(|name| !name.contains('/'));
    let weights: Vec<&String> = top().filter(|name| is_weights(name)).collect();
    if has(CONFIG) && !weights.is_empty() {
        let companions = top().filter(|name| is_companion(name));
        return Ok([CONFIG.to_owned()]
            .into_iter()
            .chain(companions.cloned())
            .chain(weights.into_iter().cloned())
            .collect());
    }
    let gguf: Vec<&String> = names.iter().filter(|name| name.ends_with(".gguf")).collect();
    match gguf[..] {
        [one] => Ok(vec![one.clone()]),
        [] => Err(HubError::NoModel { what: reference.to_string() }),
        ref several => {
            let mut shown: Vec<&str> = several.iter().take(12).map(|name| name.as_str()).collect();
            if several.len() > shown.len() {
                shown.push("…");
            }
            let found = format!("{} GGUF files ({})", several.len(), shown.join(", "));
            Err(HubError::SeveralModels { what: reference.to_string(), found })
        }
    }
}

/// `model.safetensors` or its shards, but not other versions of the weights.
fn is_weights(name: &str) -> bool {
    name == "model.safetensors" || name.starts_with("model-") && name.ends_with(".safetensors")
}

/// The index of shards, and the files of the tokenizer and chat template.
fn is_companion(name: &str) -> bool {
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

    fn selected(names: &[&str]) -> Result<Vec<String>, HubError> {
        let reference = Reference::parse("hf:a/b").unwrap().unwrap();
        select(&reference, &names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn only_the_needed_files_of_a_safetensors_repository_are_selected() {
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
        assert_eq!(selected(&names).unwrap(), expected);
    }

    #[test]
    fn a_single_gguf_file_is_selected_without_a_name() {
        assert_eq!(selected(&["config.json", "README.md", "m.gguf"]).unwrap(), ["m.gguf"]);
        let several = selected(&["m.Q4_0.gguf", "m.Q8_0.gguf"]).unwrap_err().to_string();
        assert!(several.contains("2 GGUF files (m.Q4_0.gguf, m.Q8_0.gguf)"), "{several}");
        assert!(selected(&["config.json", "model.bin"]).unwrap_err().to_string().contains("neither"));
    }
}
