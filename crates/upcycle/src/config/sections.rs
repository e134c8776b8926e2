//! The sections of a configuration.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};
use upcycle_core::{Sampling, SamplingConfig};
use upcycle_text::{ModelSampling, RESERVED};

use super::drafter::DrafterConfig;
use super::error::Problem;
use super::server::ServerOptions;
use crate::engine::EngineOptions;
use crate::options::{AnyOptions, shortest};

/// A checked configuration: every path has the expected kind of file, every name is known, and every number is in its range.
///
/// [`ConfigBuilder`](crate::ConfigBuilder) makes it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Config {
    pub(super) model: ModelConfig,
    pub(super) backend: BackendConfig,
    pub(super) drafter: DrafterConfig,
    pub(super) decode: Decode,
    pub(super) engine: EngineOptions,
    pub(super) server: ServerOptions,
    pub(super) log: Log,
}

/// `[model]`: the model, its tokenizer and its chat template.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ModelConfig {
    /// The model: a GGUF file, a folder of safetensors (`cpu`, `candle`), a folder written by `upcycle export` (`ort`), or
    /// `hf:owner/repo[/file][@revision]` (cargo feature `hub`). Required, here or as `--model`.
    #[schemars(extend("path" = "model"))]
    pub path: Option<PathBuf>,
    /// A `tokenizer.json` to use instead of the model's own tokenizer.
    #[schemars(extend("path" = "file"))]
    pub tokenizer: Option<PathBuf>,
    /// A chat template to use instead of the model's own: Jinja, or a `tokenizer_config.json` that holds one.
    #[schemars(extend("path" = "file"))]
    pub template: Option<PathBuf>,
    /// Variables of the chat template. `{ enable_thinking = false }` turns off Qwen 3's thinking. A flag sets one entry:
    /// `--set model.template_variables.enable_thinking=false`.
    pub template_variables: serde_json::Map<String, serde_json::Value>,
}

/// `[backend]`: the backend and its options.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct BackendConfig {
    /// The backend; `upcycle backends` lists those that are compiled in.
    pub name: String,
    #[serde(skip)]
    pub(super) options: BTreeMap<String, AnyOptions>,
}

impl Default for BackendConfig {
    fn default() -> Self {
        Self { name: "cpu".to_owned(), options: BTreeMap::new() }
    }
}

impl BackendConfig {
    /// The options of a backend; `None` if it is not compiled in.
    #[must_use]
    pub fn options(&self, name: &str) -> Option<&AnyOptions> {
        self.options.get(name)
    }
}

/// `[decode]`: how tokens are chosen, and when the text ends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Decode {
    /// The most tokens of an answer.
    pub max_tokens: usize,
    /// 0 always chooses the most probable token (greedy); otherwise 0.001 to 100. Unless set, decoding is greedy. `upcycle serve`
    /// instead takes what is not set of `temperature`, `top_k`, `top_p`, `min_p` and `repeat_penalty` from the model's generation
    /// config; the temperature is 1 if neither has one.
    temperature: Option<f32>,
    /// Choose only among this many of the most probable tokens; 0 turns it off.
    top_k: Option<usize>,
    /// Choose among the smallest set of the most probable tokens whose probabilities sum to this, above 0 to 1; 1 turns it off.
    top_p: Option<f32>,
    /// Choose among tokens with at least this share of the highest probability, 0 to 1; 0 turns it off.
    min_p: Option<f32>,
    /// Divides the logits of tokens that occurred before, 0.1 to 10; 1 turns it off.
    repeat_penalty: Option<f32>,
    /// Seed of sampling. The same seed gives the same text, with any drafter.
    seed: u64,
    /// Strings that end the text. They are not shown.
    pub stop: Vec<String>,
    /// How tokens are chosen: greedily, unless configured.
    #[serde(skip)]
    pub sampling: Sampling,
}

impl Default for Decode {
    fn default() -> Self {
        Self {
            max_tokens: 256,
            temperature: None,
            top_k: None,
            top_p: None,
            min_p: None,
            repeat_penalty: None,
            seed: 0,
            stop: Vec::new(),
            sampling: Sampling::greedy(),
        }
    }
}

/// `[log]`: messages on standard error.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(super) struct Log {
    /// How much is logged to standard error.
    pub(super) level: LogLevel,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Nothing.
    Off,
    /// Errors.
    Error,
    /// Warnings too.
    #[default]
    Warn,
    /// Informational messages too.
    Info,
    /// Details too.
    Debug,
    /// Everything.
    Trace,
}

impl Config {
    /// `[model]`
    #[must_use]
    pub fn model(&self) -> &ModelConfig {
        &self.model
    }

    /// `[backend]`
    #[must_use]
    pub fn backend(&self) -> &BackendConfig {
        &self.backend
    }

    /// `[drafter]`
    #[must_use]
    pub fn drafter(&self) -> &DrafterConfig {
        &self.drafter
    }

    /// `[decode]`
    #[must_use]
    pub fn decode(&self) -> &Decode {
        &self.decode
    }

    /// `[engine]`
    #[must_use]
    pub fn engine(&self) -> &EngineOptions {
        &self.engine
    }

    /// `[server]`
    #[must_use]
    pub fn server(&self) -> &ServerOptions {
        &self.server
    }

    /// `log.level`
    #[must_use]
    pub fn log_level(&self) -> LogLevel {
        self.log.level
    }

    /// The configuration as TOML, with all defaults.
    ///
    /// # Errors
    /// If a value does not fit TOML: a path that is not Unicode, a number of 2^63 or more.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        let mut table = shortest(Table::try_from(self)?);
        let backends = self.backend.options.iter().map(|(name, options)| ("backend", name, options));
        let drafters = self.drafter.options.iter().map(|(name, options)| ("drafter", name, options));
        for (section, name, options) in backends.chain(drafters) {
            insert(&mut table, section, name, options);
        }
        if let Some(Value::Table(drafter)) = table.get_mut("drafter") {
            for (name, options) in &self.drafter.sources {
                insert(drafter, "source", name, options);
            }
        }
        toml::to_string(&table)
    }

    /// Checks what depends on more than one key, and what a type cannot express.
    pub(super) fn check(&mut self) -> Result<(), Problem> {
        if let Some(name) =
            self.model.template_variables.keys().find(|name| RESERVED.contains(&name.as_str()))
        {
            let expected = format!("other names than {}", RESERVED.join(", "));
            return Err(Problem::out_of_range("model.template_variables", name, &expected));
        }
        self.decode.check()?;
        self.drafter.check()
    }
}

/// Adds a table of options to its section, unless it is empty.
fn insert(table: &mut Table, section: &str, name: &str, options: &AnyOptions) {
    if options.table().is_empty() {
        return;
    }
    let section = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
    if let Value::Table(section) = section {
        section.insert(name.to_owned(), Value::Table(options.table().clone()));
    }
}

impl Decode {
    /// How tokens are chosen: as configured; what is not set, as the model suggests. The temperature is 1 if neither names one.
    /// A suggestion that is out of range is ignored with a warning.
    pub(crate) fn sampling_for(&self, model: &ModelSampling) -> SamplingConfig {
        let plain = SamplingConfig { temperature: 1.0, seed: self.seed, ..SamplingConfig::default() };
        let valid = |suggestion| match Sampling::new(suggestion) {
            Ok(_) => true,
            Err(error) => {
                tracing::warn!("ignoring what the model's generation config suggests: {error}");
                false
            }
        };
        let ModelSampling { temperature, top_k, top_p, min_p, repeat_penalty } = *model;
        let temperature = temperature.filter(|&temperature| valid(SamplingConfig { temperature, ..plain }));
        let top_p = top_p.filter(|&top_p| valid(SamplingConfig { top_p, ..plain }));
        let min_p = min_p.filter(|&min_p| valid(SamplingConfig { min_p, ..plain }));
        let repeat_penalty =
            repeat_penalty.filter(|&repeat_penalty| valid(SamplingConfig { repeat_penalty, ..plain }));
        self.configured(SamplingConfig {
            temperature: temperature.unwrap_or(plain.temperature),
            top_k: top_k.map_or(plain.top_k, |top_k| top_k as usize),
            top_p: top_p.unwrap_or(plain.top_p),
            min_p: min_p.unwrap_or(plain.min_p),
            repeat_penalty: repeat_penalty.unwrap_or(plain.repeat_penalty),
            ..plain
        })
    }

    /// `base` with the settings that are configured.
    fn configured(&self, base: SamplingConfig) -> SamplingConfig {
        SamplingConfig {
            temperature: self.temperature.unwrap_or(base.temperature),
            top_k: self.top_k.unwrap_or(base.top_k),
            top_p: self.top_p.unwrap_or(base.top_p),
            min_p: self.min_p.unwrap_or(base.min_p),
            repeat_penalty: self.repeat_penalty.unwrap_or(base.repeat_penalty),
            ..base
        }
    }

    fn check(&mut self) -> Result<(), Problem> {
        let config = self.configured(SamplingConfig { seed: self.seed, ..SamplingConfig::default() });
        self.sampling = Sampling::new(config).map_err(|error| {
            Problem::out_of_range(&format!("decode.{}", error.name), &error.found, error.expected)
        })?;
        if let Some(index) = self.stop.iter().position(String::is_empty) {
            let expected = format!("text in each string; number {} is empty", index + 1);
            return Err(Problem::out_of_range("decode.stop", &format!("{:?}", self.stop), &expected));
        }
        Ok(())
    }
}
