//! `upcycle inspect`.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;
use upcycle::{Config, ConfigBuilder, ModelSource, Registry, Text, local_model};
use upcycle_checkpoint::gguf::Gguf;
use upcycle_core::{TreeKind, Verifier};

use crate::failure::Failure;
use crate::output::Output;
use crate::progress::Bar;

/// The content of a model file.
#[derive(Debug, Serialize)]
struct Model {
    path: String,
    architecture: Option<String>,
    name: Option<String>,
    gguf_version: u32,
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
    /// Why it does not.
    reason: Option<String>,
    /// `tree`, `chain` or `plain`.
    verifies: Option<&'static str>,
    context: Option<usize>,
}

/// The metadata keys to show, without the architecture's name.
const SIZES: [&str; 6] = [
    "block_count",
    "embedding_length",
    "feed_forward_length",
    "attention.head_count",
    "attention.head_count_kv",
    "context_length",
];

pub(crate) fn inspect(
    path: &Path,
    json: bool,
    registry: &Registry,
    output: &mut Output,
) -> Result<(), Failure> {
    let bar = Bar::new("fetching the model");
    let path = &*local_model(path, &mut |progress| bar.set(progress))?;
    drop(bar);
    if !path.is_file() {
        let what = if path.is_dir() { "is a folder; name a GGUF file" } else { "does not exist" };
        return Err(Failure::usage(format!("{} {what}", path.display())));
    }
    let gguf = Gguf::open(path).map_err(|error| Failure::failed(format!("{}: {error}", path.display())))?;
    let config = ConfigBuilder::new(registry).build()?;
    let model = Model::read(path, &gguf, registry, &config);
    if json { output.json(&model) } else { output.text(&model.to_text()) }
}

impl Model {
    fn read(path: &Path, gguf: &Gguf, registry: &Registry, config: &Config) -> Self {
        let string = |key| gguf.get_string(key).ok().flatten().map(str::to_owned);
        let architecture = string("general.architecture");
        let mut types: BTreeMap<&'static str, Tensors> = BTreeMap::new();
        for tensor in gguf.tensors() {
            let sum = types.entry(tensor.dtype.name()).or_default();
            sum.tensors += 1;
            sum.bytes += tensor.bytes;
        }
        let size = |name: &'static str| {
            let key = format!("{}.{name}", architecture.as_deref()?);
            Some((name, gguf.get_u64(&key).ok().flatten()?))
        };
        let text = Text::load(config, path, Some(gguf));
        let template = text.as_ref().ok().and_then(|text| text.template.as_ref());
        Self {
            path: path.display().to_string(),
            name: string("general.name"),
            gguf_version: gguf.version(),
            file_bytes: gguf.file_len(),
            parameters: gguf.tensors().iter().map(upcycle_checkpoint::gguf::TensorInfo::elements).sum(),
            sizes: SIZES.into_iter().filter_map(size).collect(),
            types,
            template: template.map(|template| template.source().to_owned()),
            tokenizer: text.as_ref().ok().map(|text| Tokenizer {
                model: string("tokenizer.ggml.model"),
                pre: string("tokenizer.ggml.pre"),
                tokens: text.tokenizer.vocab_size(),
                end_of_sequence: text.tokenizer.eos_ids().to_vec(),
                fingerprint: hex(&text.tokenizer.fingerprint()),
            }),
            text_error: text.as_ref().err().map(|error| chain(error)),
            template_error: text
                .as_ref()
                .ok()
                .and_then(|text| text.template_error.as_deref())
                .map(|error| chain(error)),
            backends: backends(ModelSource { path, gguf: Some(gguf) }, config, registry),
            architecture,
        }
    }

    fn to_text(&self) -> String {
        let text = |text: &Option<String>| text.as_deref().unwrap_or("?").to_owned();
        let mut lines = vec![
            (
                "file",
                format!("{}, GGUF version {}, {}", self.path, self.gguf_version, megabytes(self.file_bytes)),
            ),
            ("model", text(&self.name)),
            ("architecture", text(&self.architecture)),
            ("parameters", format!("{:.1} million", self.parameters as f64 / 1e6)),
        ];
        lines.extend(SIZES.iter().filter_map(|&size| Some((size, self.sizes.get(size)?.to_string()))));
        for (name, sum) in &self.types {
            lines.push((name, format!("{} tensors, {}", sum.tensors, megabytes(sum.bytes))));
        }
        lines.extend(self.tokenizer.as_ref().map(|tokenizer| {
            let kind = format!("{} ({})", text(&tokenizer.model), text(&tokenizer.pre));
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
                lines.push(("template", "none; use --raw or set model.template".to_owned()))
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
        }
        lines.iter().map(|(name, value)| format!("{name:<24} {value}\n")).collect()
    }
}

/// Loads the model with every backend. Nothing else shows for certain that it loads.
fn backends(model: ModelSource<'_>, config: &Config, registry: &Registry) -> Vec<Backend> {
    let mut backends = Vec::new();
    for info in registry.backends() {
        let bar = Bar::new("loading the model");
        let mut backend =
            Backend { name: info.name.clone(), loads: false, reason: None, verifies: None, context: None };
        let options = config.backend().options(&info.name);
        match registry.build_backend(&info.name, options, model, &mut |progress| bar.set(progress)) {
            Ok(verifier) => {
                let limits = verifier.limits();
                backend.loads = true;
                backend.context = Some(limits.max_context);
                backend.verifies = Some(match limits.support.kind() {
                    TreeKind::Tree => "tree",
                    TreeKind::Chain => "chain",
                    TreeKind::Plain => "plain",
                });
            }
            Err(error) => backend.reason = Some(chain(&error)),
        }
        backends.push(backend);
    }
    backends
}

/// An error and its causes on one line.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
