//! The settings of the backend, as they stand in a configuration file.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::LoadError;

/// How a model is loaded and run: the table `[backend.candle]` of a configuration file.
///
/// ```
/// use upcycle_candle::{Device, Options, WeightStorage};
///
/// let options: Options = toml::from_str("device = 'cpu'\nweights = 'f32'")?;
/// assert_eq!((options.device, options.weights), (Device::Cpu, WeightStorage::F32));
/// assert!(toml::from_str::<Options>("device = 'abacus'").is_err());
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Options {
    /// Where the model runs.
    pub device: Device,
    /// What matrices are multiplied with.
    pub weights: WeightStorage,
}

/// Where a model runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Device {
    /// The processor.
    #[default]
    Cpu,
    /// An NVIDIA GPU, with the cargo feature `candle-cuda`: the first that `CUDA_VISIBLE_DEVICES` shows.
    Cuda,
    /// An Apple GPU, with the cargo feature `candle-metal`.
    Metal,
}

impl Device {
    /// The name in a configuration.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::Metal => "metal",
        }
    }

    /// Opens the device.
    ///
    /// # Errors
    /// [`LoadError::NoDevice`] if it is not compiled in, [`LoadError::Device`] if it cannot be opened.
    pub(crate) fn open(self) -> Result<candle_core::Device, LoadError> {
        let device = self.name();
        let opened = match self {
            Self::Cpu => Ok(candle_core::Device::Cpu),
            Self::Cuda if cfg!(feature = "cuda") => candle_core::Device::new_cuda(0),
            Self::Metal if cfg!(feature = "metal") => candle_core::Device::new_metal(0),
            Self::Cuda | Self::Metal => return Err(LoadError::NoDevice { device }),
        };
        opened.map_err(|source| LoadError::Device { device, source })
    }
}

/// What matrices are multiplied with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum WeightStorage {
    /// The type in the file, where candle multiplies with it on the device; otherwise `f32`. For quantized types, candle may round
    /// activations to 8 bits.
    #[default]
    File,
    /// `f32`: matrices are dequantized at load and activations are not rounded. Four bytes a weight.
    F32,
}
