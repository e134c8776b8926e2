//! From files to a [`Model`].

use std::path::Path;
use std::sync::Arc;

use candle_core::{Device, Tensor};
use tracing::{debug, info_span};
use upcycle_checkpoint::{Checkpoint, StoredMatrix, WeightConverter};

use crate::error::LoadError;
use crate::linear::{self, Linear};
use crate::model::{Embedding, Model};
use crate::options::{Options, WeightStorage};

/// The most that a logit changes with the rows beside it if all weights are floats: the same sums in another order.
const FLOAT_TOLERANCE: f32 = 0.05;
/// The same if candle rounds activations to 8 bits for few rows but not for many. A value that rounds the other way changes all
/// that follows.
const QUANTIZED_TOLERANCE: f32 = 4.0;

/// No sum of a pass overflows if no weight is larger, for vectors up to a hundred thousand wide and a thousand layers. A normalized
/// row has values up to 4e5, its products 4e13, gate times up 2e27, and down 2e35.
const MAX_SAFE_WEIGHT: f32 = 1e3;

impl Model {
    /// Loads a GGUF file, or a folder with a `config.json` and safetensors (or one of its files): see the [crate's page](crate).
    ///
    /// A file that another program shortens or changes meanwhile is refused, as far as its length and times tell. Once the model
    /// is loaded, nothing depends on its files.
    ///
    /// # Errors
    /// [`LoadError`]: the device cannot be opened, a file cannot be read, is damaged, or holds an unsupported model.
    pub fn load(path: impl AsRef<Path>, options: &Options) -> Result<Arc<Self>, LoadError> {
        Self::load_with_progress(path, options, &mut |_, _| ())
    }

    /// Checks by the headers of its files that a model can be loaded, without reading weights. Returns its longest context.
    ///
    /// # Errors
    /// Those of [`load`](Self::load) that the headers show.
    pub fn check(path: impl AsRef<Path>, options: &Options) -> Result<usize, LoadError> {
        options.device.open()?;
        let checkpoint = Checkpoint::open(path.as_ref())?;
        checkpoint.check_tensors()?;
        let mut matrices =
            checkpoint.tensors.iter().map(|(_, tensor)| tensor).filter(|tensor| tensor.shape.len() > 1);
        matrices.try_for_each(|tensor| linear::ggml_dtype(tensor).map(drop))?;
        Ok(checkpoint.hyperparameters.context)
    }

    /// As [`load`](Self::load). Calls `progress` with the bytes of tensors read and the bytes of all tensors: first with 0, then
    /// after every tensor.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_with_progress(
        path: impl AsRef<Path>,
        options: &Options,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Arc<Self>, LoadError> {
        Self::load_on(path, options.weights, options.device.open()?, progress)
    }

    /// As [`load_with_progress`](Self::load_with_progress), on a device that the program has opened: the second of two GPUs, for
    /// example.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_on(
        path: impl AsRef<Path>,
        weights: WeightStorage,
        device: Device,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Arc<Self>, LoadError> {
        let path = path.as_ref();
        let _span = info_span!("load", path = %path.display(), ?weights).entered();
        let checkpoint = Checkpoint::open(path)?;
        debug!(model = ?checkpoint.hyperparameters, "read the metadata");
        let mut loader = Loader { device, weights, quantized: false, max_abs: 0.0 };
        let weights = checkpoint.read_weights(&mut loader, progress)?;
        let Loader { device, quantized, max_abs, .. } = loader;
        Ok(Arc::new(Self {
            hyperparameters: checkpoint.hyperparameters,
            device,
            tolerance: if quantized { QUANTIZED_TOLERANCE } else { FLOAT_TOLERANCE },
            nan_checks: quantized && max_abs > MAX_SAFE_WEIGHT,
            weights,
        }))
    }
}

/// Copies weights to a device.
struct Loader {
    device: Device,
    weights: WeightStorage,
    /// Whether a matrix keeps its quantized blocks.
    quantized: bool,
    /// No weight so far is larger; infinite if one is not finite.
    max_abs: f32,
}

impl WeightConverter for Loader {
    type Matrix = Linear;
    type Embedding = Embedding;
    type Vector = Tensor;
    type Error = LoadError;

    fn matrix(&mut self, stored: StoredMatrix<'_>) -> Result<Linear, LoadError> {
        let StoredMatrix { inputs, outputs, bytes, .. } = stored;
        let dtype = linear::ggml_dtype(stored.info)?;
        let shape = (outputs, inputs);
        if self.weights == WeightStorage::File && linear::has_quantized_matmul(dtype, inputs) {
            self.quantized = true;
            self.max_abs = self.max_abs.max(linear::largest_in_blocks(dtype, bytes));
            return Ok(Linear::quantized(linear::qtensor_from_blocks(dtype, bytes, shape, &self.device)?)?);
        }
        let values =
            linear::qtensor_from_blocks(dtype, bytes, shape, &Device::Cpu)?.dequantize(&Device::Cpu)?;
        self.max_abs = self.max_abs.max(linear::max_abs(&values.flatten_all()?.to_vec1()?));
        Ok(Linear::Dense(values.to_device(&self.device)?))
    }

    fn embedding(&mut self, stored: StoredMatrix<'_>) -> Result<Embedding, LoadError> {
        let shape = (stored.outputs, stored.inputs);
        Ok(Embedding(linear::qtensor_from_blocks(
            linear::ggml_dtype(stored.info)?,
            stored.bytes,
            shape,
            &Device::Cpu,
        )?))
    }

    fn tied_lm_head(&mut self, stored: StoredMatrix<'_>, _: &Embedding) -> Result<Linear, LoadError> {
        self.matrix(stored)
    }

    fn vector(&mut self, values: Vec<f32>) -> Result<Tensor, LoadError> {
        self.max_abs = self.max_abs.max(linear::max_abs(&values));
        Ok(Tensor::new(values, &self.device)?)
    }
}
