//! Where a model keeps its chat templates.

use std::fs;
use std::path::Path;

use serde_json::Value;
use upcycle_checkpoint::gguf::Gguf;

use crate::error::TextError;
use crate::json_file;

/// The key of the template in JSON files.
const KEY: &str = "chat_template";

/// The GGUF key of the default template. A named one has its name after a further dot.
const GGUF_KEY: &str = "tokenizer.chat_template";

/// A model's templates. Some models have several by name: `default`, `tool_use` and others.
#[derive(Debug, Clone)]
pub(crate) struct TemplateSource {
    pub(crate) default: String,
    /// For conversations with tools.
    pub(crate) tool_use: Option<String>,
}

impl From<String> for TemplateSource {
    fn from(default: String) -> Self {
        Self { default, tool_use: None }
    }
}

impl TemplateSource {
    /// Chooses among templates by name: `default`, or the only one.
    fn named(mut templates: Vec<(String, String)>) -> Result<Option<Self>, String> {
        templates.retain(|(_, template)| !template.is_empty());
        let find = |wanted: &str| {
            templates.iter().find(|(name, _)| name == wanted).map(|(_, template)| template.clone())
        };
        let default = match (find("default"), templates.as_slice()) {
            (Some(default), _) => default,
            (None, []) => return Ok(None),
            (None, [(_, only)]) => only.clone(),
            (None, several) => {
                let names: Vec<&str> = several.iter().map(|(name, _)| name.as_str()).collect();
                return Err(format!("expected a chat template named `default`, found {}", names.join(", ")));
            }
        };
        Ok(Some(Self { default, tool_use: find("tool_use") }))
    }

    /// As [`ChatTemplate::from_gguf`](crate::ChatTemplate::from_gguf).
    pub(crate) fn from_gguf(gguf: &Gguf) -> Result<Option<Self>, TextError> {
        let mut templates = Vec::new();
        for (key, _) in gguf.metadata() {
            let name = match key.strip_prefix(GGUF_KEY) {
                Some("") => "default",
                Some(rest) => match rest.strip_prefix('.') {
                    Some(name) => name,
                    None => continue,
                },
                None => continue,
            };
            if let Some(template) = gguf.get_string(key)? {
                templates.push((name.to_owned(), template.to_owned()));
            }
        }
        Self::named(templates).map_err(|reason| TextError::TemplateChoice { reason })
    }

    /// As [`ChatTemplate::from_file`](crate::ChatTemplate::from_file).
    pub(crate) fn from_file(path: &Path) -> Result<Self, TextError> {
        if path.extension().is_some_and(|extension| extension == "json") {
            let json = json_file::parse(path, &json_file::read(path)?)?;
            return Self::from_json(path, &json)?.ok_or_else(|| {
                json_file::invalid(path, format!("expected a template under `{KEY}`, found none"))
            });
        }
        let text =
            fs::read_to_string(path).map_err(|source| TextError::Read { path: path.to_owned(), source })?;
        // Some editors begin a file with a byte order mark.
        Ok(text.strip_prefix('\u{feff}').unwrap_or(&text).to_owned().into())
    }

    /// As [`ChatTemplate::from_folder`](crate::ChatTemplate::from_folder).
    pub(crate) fn from_folder(folder: &Path) -> Result<Option<Self>, TextError> {
        let jinja = folder.join("chat_template.jinja");
        if jinja.exists() {
            return Self::from_file(&jinja).map(Some);
        }
        for name in ["tokenizer_config.json", "chat_template.json"] {
            let path = folder.join(name);
            let json = json_file::read_if_exists(&path)?.unwrap_or_default();
            if let Some(found) = Self::from_json(&path, &json)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The templates in a JSON file: a string, a list of objects with `name` and `template`, or an object of strings.
    fn from_json(path: &Path, json: &Value) -> Result<Option<Self>, TextError> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let templates = match &json[KEY] {
            Value::Null => return Ok(None),
            Value::String(only) => Some(vec![("default".to_owned(), only.clone())]),
            Value::Array(entries) => {
                entries.iter().map(|entry| Some((text(&entry["name"])?, text(&entry["template"])?))).collect()
            }
            Value::Object(entries) => {
                entries.iter().map(|(name, template)| Some((name.clone(), text(template)?))).collect()
            }
            _ => None,
        };
        let templates = templates.ok_or_else(|| {
            let expected = "a string, or a list of objects with the strings `name` and `template`";
            json_file::invalid(path, format!("expected {expected}, under `{KEY}`"))
        })?;
        Self::named(templates).map_err(|reason| json_file::invalid(path, reason))
    }
}
