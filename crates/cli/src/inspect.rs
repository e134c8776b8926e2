//! `upcycle inspect`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;
use upcycle::{BackendInfo, Config, ConfigBuilder, ModelSource, Registry, Text, local_model, model_folder};
use upcycle_checkpoint::Checkpoint;
use upcycle_checkpoint::gguf::{Gguf, SplitFiles, TensorInfo};
use upcycle_core::TreeKind;

use crate::failure::Failure;
use crate::input::is_stdio;
use crate::output::Output;
use crate::progress::Bar;

/// What the headers of a model's files say.
#[derive(Debug, Default, Serialize)]
struct Model {
    path: String,
    architecture: Option<String>,
    name: Option<String>,
    /// None for a folder.
    gguf_version: Option<u32>,
    /// Files of weights.
    files: usize,
    /// Their bytes.
    file_bytes: u64,
    parameters: u64,
    /// Sizes by their GGUF names, such as `block_count`.
    sizes: BTreeMap<&'static str, u64>,
    /// Tensors by type.
    types: BTreeMap<&'static str, Tensors>,
    tokenizer: Option<Tokenizer>,
    /// Why the tokenizer or the chat template cannot be read.
    text_error: Option<String>,
    /// Why the chat template does not compile.
    template_error: Option<String>,
    /// The source of the chat template.
    template: Option<String>,
    backends: Vec<Backend>,
}

#[derive(Debug, Default, Serialize)]
struct Tensors {
    tensors: u64,
    bytes: u64,
}

#[derive(Debug, Serialize)]
struct Tokenizer {
    model: Option<String>,
    pre: Option<String>,
    tokens: usize,
    end_of_sequence: Vec<u32>,
    fingerprint: String,
}

/// Whether a backend loads the model.
#[derive(Debug, Serialize)]
struct Backend {
    name: String,
    loads: bool,
    /// Why it does not, or why that is not known.
    reason: Option<String>,
    /// `tree`, `chain` or `plain`.
    verifies: Option<&'static str>,
    context: Option<usize>,
    /// Bytes of the keys and values of a token.
    kv_bytes: Option<usize>,
}

/// The metadata keys to show, without the architecture's name, and the fields of a `config.json` with the same meaning.
const SIZES: [(&str, &str); 6] = [
    ("block_count", "num_hidden_layers"),
    ("embedding_length", "hidden_size"),
    ("feed_forward_length", "intermediate_size"),
    ("attention.head_count", "num_attention_heads"),
    ("attention.head_count_kv", "num_key_value_heads"),
    ("context_length", "max_position_embeddings"),
];

/// Files of which one is in every folder with a model.
const FOLDER_FILES: [&str; 3] = ["config.json", "genai_config.json", "model.onnx"];

pub(crate) fn inspect(
    path: &Path,
    json: bool,
    registry: &Registry,
    output: &mut Output,
) -> Result<(), Failure> {
    if is_stdio(path) {
        return Err(Failure::usage("a model cannot be read from standard input; name its file or folder"));
    }
    let bar = Bar::new("fetching the model");
    let path = &*local_model(path, &mut |progress| bar.set(progress))?;
    drop(bar);
    if !path.exists() {
        return Err(Failure::usage(format!("{} does not exist", path.display())));
    }
    let mut builder = ConfigBuilder::new(registry);
    builder.variables(std::env::vars_os())?;
    let config = builder.build()?;
    let model = match model_folder(path) {
        Some(folder) => Model::of_folder(path, folder, registry, &config)?,
        None => Model::of_gguf(path, registry, &config)?,
    };
    if json { output.json(&model) } else { output.text(&model.to_text()) }
}

impl Model {
    /// A GGUF file, or the first of a split model.
    fn of_gguf(path: &Path, registry: &Registry, config: &Config) -> Result<Self, Failure> {
        let failed = |error| Failure::failed(format!("{}: {error}", path.display()));
        // Without one of its parts, the first still says which model it is.
        // What the reader does not understand, the backends name below.
        let parts = SplitFiles::open_lenient(path).ok();
        let opened = match &parts {
            Some(_) => None,
            None => Some(Gguf::open_lenient(path).map_err(failed)?.0),
        };
        let Some(gguf) = parts.as_ref().map(SplitFiles::first).or(opened.as_ref()) else {
            return Err(Failure::failed(format!("{} has no header", path.display())));
        };
        let files: Vec<&Gguf> = match &parts {
            Some(parts) => parts.files().map(|(_, gguf)| gguf).collect(),
            None => vec![gguf],
        };
        let string = |key| gguf.get_string(key).ok().flatten().map(str::to_owned);
        let architecture = string("general.architecture");
        let size = |(name, _): (&'static str, _)| {
            let key = format!("{}.{name}", architecture.as_deref()?);
            Some((name, gguf.get_u64(&key).ok().flatten()?))
        };
        let mut model = Self {
            path: path.display().to_string(),
            name: string("general.name"),
            gguf_version: Some(gguf.version()),
            files: files.len(),
            file_bytes: files.iter().map(|gguf| gguf.file_len()).sum(),
            sizes: SIZES.into_iter().filter_map(size).collect(),
            architecture,
            ..Self::default()
        };
        model.count(files.iter().flat_map(|gguf| gguf.tensors()));
        model.read_text(path, Some(gguf), config);
        model.ask_backends(ModelSource { path, gguf: Some(gguf) }, config, registry)?;
        Ok(model)
    }

    /// A folder with a `config.json` and safetensors, or with a graph.
    fn of_folder(path: &Path, folder: &Path, registry: &Registry, config: &Config) -> Result<Self, Failure> {
        if !FOLDER_FILES.iter().any(|name| folder.join(name).is_file()) {
            return Err(Failure::usage(not_a_model(folder)));
        }
        let text = fs::read_to_string(folder.join(FOLDER_FILES[0])).unwrap_or_default();
        let settings: Value = serde_json::from_str(&text).unwrap_or_default();
        let size = |(name, field): (&'static str, &str)| Some((name, settings.get(field)?.as_u64()?));
        let weights = files_ending(folder, &["safetensors", "onnx", "data"]);
        let mut model = Self {
            path: path.display().to_string(),
            architecture: settings.get("model_type").and_then(Value::as_str).map(str::to_owned),
            files: weights.len(),
            file_bytes: weights.iter().filter_map(|path| Some(fs::metadata(path).ok()?.len())).sum(),
            sizes: SIZES.into_iter().filter_map(size).collect(),
            ..Self::default()
        };
        // Its error is that of the backends, below.
        if let Ok(checkpoint) = Checkpoint::open(path) {
            model.count(checkpoint.tensors.iter().map(|(_, tensor)| tensor));
        }
        model.read_text(path, None, config);
        model.ask_backends(ModelSource { path, gguf: None }, config, registry)?;
        Ok(model)
    }

    fn count<'a>(&mut self, tensors: impl Iterator<Item = &'a TensorInfo>) {
        for tensor in tensors {
            let sum = self.types.entry(tensor.dtype.name()).or_default();
            sum.tensors += 1;
            sum.bytes += tensor.bytes;
            self.parameters += tensor.elements();
        }
    }

    fn read_text(&mut self, path: &Path, gguf: Option<&Gguf>, config: &Config) {
        let string = |key| gguf?.get_string(key).ok().flatten().map(str::to_owned);
        match Text::load(config, path, gguf) {
            Ok(text) => {
                self.tokenizer = Some(Tokenizer {
                    model: string("tokenizer.ggml.model"),
                    pre: string("tokenizer.ggml.pre"),
                    tokens: text.tokenizer.vocab_size(),
                    end_of_sequence: text.tokenizer.eos_ids().to_vec(),
                    fingerprint: hex(&text.tokenizer.fingerprint()),
                });
                self.template_error = text.template_error.as_deref().map(|error| chain(error));
                self.template = text.template.map(|template| template.source().to_owned());
            }
            Err(error) => self.text_error = Some(chain(&error)),
        }
    }

    /// Asks every backend, by the headers alone.
    fn ask_backends(
        &mut self,
        model: ModelSource<'_>,
        config: &Config,
        registry: &Registry,
    ) -> Result<(), Failure> {
        for info in registry.backends() {
            let mut backend = Backend::ask(info, model, config, registry);
            // A backend may have a tokenizer of its own.
            if backend.loads && self.text_error.is_some() {
                let mut builder = ConfigBuilder::new(registry);
                builder.flag("--backend", "backend.name", &backend.name)?;
                if let Err(error) = Text::load(&builder.build()?, model.path, model.gguf) {
                    (backend.loads, backend.reason) = (false, Some(chain(&error)));
                }
            }
            self.backends.push(backend);
        }
        Ok(())
    }

    fn to_text(&self) -> String {
        let text = |text: &Option<String>| text.as_deref().unwrap_or("?").to_owned();
        let version =
            self.gguf_version.map(|version| format!(", GGUF version {version}")).unwrap_or_default();
        let parts = if self.files > 1 { format!(" in {} files", self.files) } else { String::new() };
        let mut lines = vec![
            ("file", format!("{}{version}, {}{parts}", self.path, megabytes(self.file_bytes))),
            ("model", text(&self.name)),
            ("architecture", text(&self.architecture)),
            ("parameters", format!("{:.1} million", self.parameters as f64 / 1e6)),
        ];
        lines.extend(SIZES.iter().filter_map(|&(size, _)| Some((size, self.sizes.get(size)?.to_string()))));
        for (name, sum) in &self.types {
            lines.push((name, format!("{} tensors, {}", sum.tensors, megabytes(sum.bytes))));
        }
        lines.extend(self.tokenizer.as_ref().map(|tokenizer| {
            let kind = match &tokenizer.model {
                Some(model) => format!("{model} ({})", text(&tokenizer.pre)),
                None => "tokenizer.json".to_owned(),
            };
            let end = &tokenizer.end_of_sequence;
            ("tokenizer", format!("{kind}, {} tokens, end of sequence {end:?}", tokenizer.tokens))
        }));
        match (&self.text_error, &self.template_error, &self.template) {
            (Some(reason), ..) => lines.push(("text", format!("cannot be used: {reason}"))),
            (None, Some(reason), _) => {
                lines.push(("template", format!("{reason}; use --raw or set model.template")));
            }
            (None, None, Some(source)) => {
                lines.push(("template", format!("{} characters", source.chars().count())));
            }
            (None, None, None) => {
                lines.push(("template", "none; use --raw or set model.template".to_owned()));
            }
        }
        for backend in &self.backends {
            let state = match (&backend.reason, backend.verifies, backend.context) {
                (Some(reason), ..) => reason.clone(),
                (None, shape, context) => {
                    format!("loads it; verifies: {}; context {}", shape.unwrap_or("?"), context.unwrap_or(0))
                }
            };
            lines.push(("backend", format!("{}: {state}", backend.name)));
            if let (Some(bytes), Some(context)) = (backend.kv_bytes, backend.context) {
                lines.push(("", format!("keys and values: {}", memory_by_context(bytes, context))));
            }
        }
        lines.iter().map(|(name, value)| format!("{name:<24} {}\n", printable(value))).collect()
    }
}

/// Names in a file may have control characters, which a terminal would obey.
fn printable(text: &str) -> String {
    let escape = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(escape).collect()
}

impl Backend {
    fn ask(info: BackendInfo, model: ModelSource<'_>, config: &Config, registry: &Registry) -> Self {
        let options = config.backend().options(&info.name);
        let (fit, reason) = match registry.check_model(&info.name, options, model) {
            Ok(Some(fit)) => (Some(fit), None),
            Ok(None) => (None, Some("not known: it has no check without loading the weights".to_owned())),
            Err(error) => (None, Some(chain(&error))),
        };
        Self {
            name: info.name,
            loads: fit.is_some(),
            reason,
            verifies: fit.map(|fit| match fit.kind {
                TreeKind::Tree => "tree",
                TreeKind::Chain => "chain",
                TreeKind::Plain => "plain",
            }),
            context: fit.map(|fit| fit.max_context),
            kv_bytes: fit.and_then(|fit| fit.kv_bytes),
        }
    }
}

/// The files of a folder whose names end so, in order.
fn files_ending(folder: &Path, endings: &[&str]) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let ends =
        |path: &PathBuf| path.extension().is_some_and(|end| endings.iter().any(|ending| end == *ending));
    let mut files: Vec<PathBuf> = entries.filter(ends).collect();
    files.sort();
    files
}

/// What to say of a folder without a model.
fn not_a_model(folder: &Path) -> String {
    let found = files_ending(folder, &["gguf"]);
    let found: Vec<_> =
        found.iter().filter_map(|path| path.file_name()).map(|name| name.to_string_lossy()).collect();
    let hint = match found.as_slice() {
        [] => "name a GGUF file, or a folder with a config.json or a graph".to_owned(),
        names => format!("name a GGUF file in it: {}", names.join(", ")),
    };
    format!("{} is a folder without {}; {hint}", folder.display(), FOLDER_FILES.join(", "))
}

/// An error and its causes on one line.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Memory of the keys and values of contexts of 4096 tokens, 32768 and so on, up to the longest.
fn memory_by_context(kv_bytes: usize, longest: usize) -> String {
    let contexts = [4096, 32768, 131_072].into_iter().filter(|&context| context < longest);
    let each = contexts.chain([longest]).map(|context| {
        format!("{context} tokens {}", megabytes((kv_bytes as u64).saturating_mul(context as u64)))
    });
    each.collect::<Vec<_>>().join(", ")
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
