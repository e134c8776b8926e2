//! The settings of the backend, as they stand in a configuration file.

use std::num::NonZeroUsize;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a model is loaded and run: the table `[backend.cpu]` of a configuration file.
///
/// ```
/// use upcycle_cpu::{Options, WeightStorage};
///
/// let options: Options = toml::from_str("weights = 'f32'\nthreads = 2")?;
/// assert_eq!(options.weights, WeightStorage::F32);
/// assert_eq!(options.threads.map(Into::into), Some(2));
/// assert!(toml::from_str::<Options>("weights = 'f8'").is_err());
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Options {
    /// Threads of a pass. By default one for each physical core that the process may use.
    #[schemars(range(min = 1, max = 1024))]
    pub threads: Option<NonZeroUsize>,
    /// What matrices are multiplied with.
    pub weights: WeightStorage,
    /// The type of cached keys and values.
    pub kv_type: KvType,
}

/// What matrices are multiplied with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum WeightStorage {
    /// The type in the file. For quantized types, activations are rounded to 8 bits.
    #[default]
    File,
    /// `f32`: matrices are dequantized at load and activations are not rounded. Four bytes a weight.
    F32,
}

/// The type of cached keys and values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum KvType {
    /// Single precision.
    #[default]
    F32,
    /// Half precision: half the memory, and half the reading of long contexts. A key or value beyond 65504 fails its pass.
    F16,
}

impl From<KvType> for upcycle_kernels::KvType {
    fn from(kv_type: KvType) -> Self {
        match kv_type {
            KvType::F32 => Self::F32,
            KvType::F16 => Self::F16,
        }
    }
}
