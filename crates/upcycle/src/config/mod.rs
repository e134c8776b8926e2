//! The configuration: written as [`Raw`], checked once into [`Config`], gathered by [`Layers`].

mod budget;
mod choices;
#[cfg(test)]
mod documented;
mod drafter;
mod error;
mod keys;
mod layers;
mod llama_cpp;
mod ort;
mod prompt_rows;
mod raw;
mod variables;

use std::num::NonZeroUsize;
use std::path::PathBuf;

use upcycle_core::{Sampling, SamplingConfig};

pub use budget::Budget;
pub use drafter::{
    DEFAULT_K, DEFAULT_TABLE_MIB, DrafterChoice, Mixed, PAPER_80, Preset, Recycling, SourceName, Tree,
};
pub use error::{ConfigError, Origin, Problem, TreeFileError};
pub(crate) use keys::nearest;
pub use layers::Layers;
pub use llama_cpp::{
    CacheType, FlashAttention, LlamaCppChoice, RawLlamaCpp, RawLora, RopeScaling, SplitMode,
};
pub use ort::{GraphOptimization, OrtChoice, OrtProvider, OrtProviderOption, RawOrt};
pub use prompt_rows::PromptRows;
pub use raw::{Raw, RawAmount, RawBackend, RawCandle, RawCpu, RawDecode, RawDrafter, RawLog, RawModel};

use choices::{existing_file, existing_model, names, out_of_range};

/// Tokens emitted at most where the configuration does not say.
pub const DEFAULT_MAX_TOKENS: usize = 256;

/// A checked configuration: every path leads to a file, every name is known, every number is in range.
///
/// Made from a [`Raw`] by `TryFrom`, and `Raw::from` gives one back that makes the same configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    model: ModelFiles,
    backend: BackendChoice,
    drafter: DrafterChoice,
    shared: bool,
    decode: Decode,
    log: LogLevel,
}

/// The files of a model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelFiles {
    /// The GGUF file, or a folder that `upcycle export` wrote, or its graph; none where the configuration leaves it to the command line.
    pub path: Option<PathBuf>,
    /// A tokenizer instead of the one in the GGUF file.
    pub tokenizer: Option<PathBuf>,
    /// A chat template instead of the one in the GGUF file.
    pub template: Option<PathBuf>,
    /// What the template is told besides the conversation, such as `enable_thinking`.
    pub template_variables: serde_json::Map<String, serde_json::Value>,
}

/// The engine and its options.
#[derive(Clone, Debug, PartialEq)]
pub struct BackendChoice {
    /// The name under which it is registered.
    pub name: String,
    /// Options of the backend `cpu`, whichever is chosen.
    pub cpu: CpuChoice,
    /// Options of the backend `candle`, whichever is chosen.
    pub candle: CandleChoice,
    /// Options of the ONNX Runtime backend, whichever is chosen.
    pub ort: OrtChoice,
    /// Options of the llama.cpp backend, whichever is chosen.
    pub llama_cpp: LlamaCppChoice,
}

/// Options of the backend `cpu`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuChoice {
    /// How it keeps weights.
    pub weights: Weights,
    /// Threads of a pass; one for each physical core if none.
    pub threads: Option<NonZeroUsize>,
}

/// Options of the backend `candle`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CandleChoice {
    /// Where it runs.
    pub device: Device,
    /// How it keeps weights.
    pub weights: Weights,
}

names! {
    /// Where candle runs.
    Device {
        /// On the CPU.
        Cpu = "cpu",
        /// On an NVIDIA GPU.
        Cuda = "cuda",
        /// On a GPU of Apple's.
        Metal = "metal",
    }
}

names! {
    /// How a backend keeps weights.
    Weights {
        /// As stored in the file.
        File = "file",
        /// Dequantized to f32 at load.
        F32 = "f32",
    }
}

names! {
    /// How much is logged.
    LogLevel {
        /// Nothing.
        Off = "off",
        /// Errors.
        Error = "error",
        /// Warnings too.
        Warn = "warn",
        /// What happens, too.
        Info = "info",
        /// How it happens, too.
        Debug = "debug",
        /// Everything.
        Trace = "trace",
    }
}

/// How tokens are chosen and when the text ends.
#[derive(Clone, Debug, PartialEq)]
pub struct Decode {
    /// The most tokens to emit.
    pub max_tokens: usize,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Strings that end the text; none is empty.
    pub stop: Vec<String>,
}

impl Config {
    /// `[model]`
    #[must_use]
    pub fn model(&self) -> &ModelFiles {
        &self.model
    }

    /// `[backend]`
    #[must_use]
    pub fn backend(&self) -> &BackendChoice {
        &self.backend
    }

    /// `[drafter]`
    #[must_use]
    pub fn drafter(&self) -> &DrafterChoice {
        &self.drafter
    }

    /// Whether the prompts of one run share what the drafter learns from them; else each begins with empty tables.
    #[must_use]
    pub fn shared(&self) -> bool {
        self.shared
    }

    /// `[decode]`
    #[must_use]
    pub fn decode(&self) -> &Decode {
        &self.decode
    }

    /// `[log]`
    #[must_use]
    pub fn log_level(&self) -> LogLevel {
        self.log
    }

    /// The configuration as TOML, with every default written out.
    ///
    /// # Errors
    /// If a program has put into it what TOML cannot hold: a path that is not Unicode, a number of 2^63 or more.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(&Raw::from(self))
    }
}

impl TryFrom<Raw> for Config {
    type Error = ConfigError;

    fn try_from(raw: Raw) -> Result<Self, ConfigError> {
        let Raw { model, backend, drafter, decode, log } = raw;
        let file = |key, path: Option<PathBuf>| path.map(|path| existing_file(key, path)).transpose();
        let shared = drafter.shared.unwrap_or(true);
        let drafter = drafter.check()?;
        if !shared && drafter.snapshot().is_some() {
            let expected =
                "true beside drafter.snapshot: tables that every prompt empties leave nothing to keep";
            return Err(out_of_range("drafter.shared", &shared, expected).into());
        }
        let level = log.level.map(|level| LogLevel::parse("log.level", &level)).transpose()?;
        Ok(Self {
            model: ModelFiles {
                path: model.path.map(|path| existing_model("model.path", path)).transpose()?,
                tokenizer: file("model.tokenizer", model.tokenizer)?,
                template: file("model.template", model.template)?,
                template_variables: variables::check(model.template_variables.unwrap_or_default())?,
            },
            backend: BackendChoice {
                name: backend.name.unwrap_or_else(|| "cpu".to_owned()),
                cpu: backend.cpu.check()?,
                candle: backend.candle.check()?,
                ort: backend.ort.check()?,
                llama_cpp: backend.llama_cpp.check()?,
            },
            drafter,
            shared,
            decode: decode.check()?,
            log: level.unwrap_or(LogLevel::Warn),
        })
    }
}

impl RawCpu {
    fn check(self) -> Result<CpuChoice, Problem> {
        let weights =
            self.weights.map(|weights| Weights::parse("backend.cpu.weights", &weights)).transpose()?;
        let threads = self.threads.map(|threads| {
            let sound = NonZeroUsize::new(threads).filter(|threads| threads.get() <= MAX_THREADS);
            sound.ok_or_else(|| out_of_range("backend.cpu.threads", &threads, &format!("1 to {MAX_THREADS}")))
        });
        Ok(CpuChoice { weights: weights.unwrap_or(Weights::File), threads: threads.transpose()? })
    }
}

impl RawCandle {
    fn check(self) -> Result<CandleChoice, Problem> {
        let device = self.device.map(|device| Device::parse("backend.candle.device", &device)).transpose()?;
        let weights =
            self.weights.map(|weights| Weights::parse("backend.candle.weights", &weights)).transpose()?;
        Ok(CandleChoice { device: device.unwrap_or(Device::Cpu), weights: weights.unwrap_or(Weights::File) })
    }
}

/// More threads than any machine that one model runs on; a slip of the finger must not start a million.
const MAX_THREADS: usize = 1024;

impl RawDecode {
    fn check(self) -> Result<Decode, Problem> {
        let defaults = SamplingConfig::default();
        let sampling = Sampling::new(SamplingConfig {
            temperature: self.temperature.unwrap_or(defaults.temperature),
            top_k: self.top_k.unwrap_or(defaults.top_k),
            top_p: self.top_p.unwrap_or(defaults.top_p),
            min_p: self.min_p.unwrap_or(defaults.min_p),
            repeat_penalty: self.repeat_penalty.unwrap_or(defaults.repeat_penalty),
            seed: self.seed.unwrap_or(defaults.seed),
            stream: defaults.stream,
        })
        .map_err(|error| {
            let key = match error.name {
                "temperature" => "decode.temperature",
                "top_p" => "decode.top_p",
                "min_p" => "decode.min_p",
                _ => "decode.repeat_penalty",
            };
            out_of_range(key, &error.found, error.expected)
        })?;
        let stop = self.stop.unwrap_or_default();
        if let Some(index) = stop.iter().position(String::is_empty) {
            let expected =
                format!("text in each string; number {} is empty and would stop at once", index + 1);
            return Err(out_of_range("decode.stop", &format!("{stop:?}"), &expected));
        }
        Ok(Decode { max_tokens: self.max_tokens.unwrap_or(DEFAULT_MAX_TOKENS), sampling, stop })
    }
}

impl From<&Config> for Raw {
    fn from(config: &Config) -> Self {
        let Config { model, backend, drafter, shared, decode, log } = config.clone();
        let sampling = *decode.sampling.config();
        let mut raw = RawDrafter {
            name: Some(drafter.name().to_owned()),
            shared: Some(shared),
            ..RawDrafter::default()
        };
        match drafter {
            DrafterChoice::Recycling(Recycling { preset, k, tree, budget, prompt_rows, snapshot }) => {
                raw.preset = preset.map(|preset| preset.name().to_owned());
                raw.k = Some(k);
                raw.tree = Some(tree.to_string());
                raw.set_budget(budget);
                raw.prompt_rows = Some(prompt_rows.into());
                raw.snapshot = snapshot;
            }
            DrafterChoice::Mixed(Mixed { budget, sources, table_mib, prompt_rows, snapshot, texts }) => {
                raw.set_budget(budget);
                raw.prompt_rows = Some(prompt_rows.into());
                raw.table_mib = Some(table_mib);
                raw.snapshot = snapshot;
                raw.texts = texts;
                raw.sources = Some(sources.iter().map(|source| source.name().to_owned()).collect());
            }
            DrafterChoice::PromptLookup { budget } => raw.set_budget(budget),
            DrafterChoice::None => {}
        }
        Self {
            model: RawModel {
                path: model.path,
                tokenizer: model.tokenizer,
                template: model.template,
                template_variables: variables::written(model.template_variables),
            },
            backend: RawBackend {
                name: Some(backend.name),
                cpu: RawCpu {
                    weights: Some(backend.cpu.weights.name().to_owned()),
                    threads: backend.cpu.threads.map(NonZeroUsize::get),
                },
                candle: RawCandle {
                    device: Some(backend.candle.device.name().to_owned()),
                    weights: Some(backend.candle.weights.name().to_owned()),
                },
                ort: backend.ort.into(),
                llama_cpp: backend.llama_cpp.into(),
            },
            drafter: raw,
            decode: RawDecode {
                max_tokens: Some(decode.max_tokens),
                temperature: Some(sampling.temperature),
                top_k: Some(sampling.top_k),
                top_p: Some(sampling.top_p),
                min_p: Some(sampling.min_p),
                repeat_penalty: Some(sampling.repeat_penalty),
                seed: Some(sampling.seed),
                stop: Some(decode.stop),
            },
            log: RawLog { level: Some(log.name().to_owned()) },
        }
    }
}
