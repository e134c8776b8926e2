//! The settings of the backend, as they stand in a configuration file.

use std::num::NonZeroUsize;

use serde::Deserialize;

use crate::LoadError;

/// How a model is loaded and run: the table `[backend.candle]` of a configuration file.
///
/// ```
/// use upcycle_candle::{Options, Weights};
///
/// let options: Options = toml::from_str("device = 'cpu'\nweights = 'f32'\nthreads = 2")?;
/// assert_eq!(options.weights, Weights::F32);
/// assert_eq!(options.threads.map(Into::into), Some(2));
/// assert!(toml::from_str::<Options>("device = 'abacus'").is_err());
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
#[non_exhaustive]
pub struct Options {
    /// Where the model runs.
    pub device: Device,
    /// What the products multiply with.
    pub weights: Weights,
    /// Whose products and attention run it; by default the workspace's own wherever they can.
    pub kernels: Option<Products>,
    /// Threads of a pass. By default one for each core that the process may use (for candle's products as many as
    /// `RAYON_NUM_THREADS` says, where it is set).
    ///
    /// Each model has a pool of its own, shared by its verifiers; nothing is set for the process.
    pub threads: Option<NonZeroUsize>,
}

/// Whose products and attention run a model: the key `kernels`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Products {
    /// Those of `upcycle-kernels`: weights packed at load, eight rows for little more than one. A model with a tensor
    /// type or a head width that they lack is refused.
    Own,
    /// candle's dot products: every type that candle reads, each row at its full price.
    Candle,
}

/// Where a model runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Device {
    /// The processor.
    #[default]
    Cpu,
    /// An NVIDIA GPU, with the cargo feature `cuda`: the first that `CUDA_VISIBLE_DEVICES` shows.
    Cuda,
    /// A GPU of Apple's, with the cargo feature `metal`.
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

    /// The device for candle's tensors; none for the processor, which has loops of its own here.
    ///
    /// # Errors
    /// [`LoadError::NoDevice`] where it is not compiled in, [`LoadError::Device`] where it is not there.
    pub(crate) fn open(self) -> Result<Option<candle_core::Device>, LoadError> {
        let device = self.name();
        let opened = match self {
            Self::Cpu => return Ok(None),
            Self::Cuda if cfg!(feature = "cuda") => candle_core::Device::new_cuda(0),
            Self::Metal if cfg!(feature = "metal") => candle_core::Device::new_metal(0),
            Self::Cuda | Self::Metal => return Err(LoadError::NoDevice { device }),
        };
        opened.map(Some).map_err(|source| LoadError::Device { device, source })
    }
}

/// What the products multiply with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Weights {
    /// The file's own blocks, read from the memory map: quantized matrices stay quantized, and activations are
    /// quantized to 8 bits for them, as the type asks. `F16` and `BF16` matrices are widened to `f32` at load.
    ///
    /// A pass costs about as much as its rows one by one: candle's dot products unpack the weights for each row.
    #[default]
    File,
    /// `f32`: every matrix is dequantized at load and activations are not quantized. Four bytes a weight.
    ///
    /// Rows share what is read, so that a pass costs much less than its rows one by one.
    F32,
}
