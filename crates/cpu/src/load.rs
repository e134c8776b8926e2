//! From files to a [`Model`].

use std::path::Path;
use std::sync::Arc;

use tracing::{debug, info_span};
use upcycle_checkpoint::gguf::TensorInfo;
use upcycle_checkpoint::{Checkpoint, StoredMatrix, WeightConverter};
use upcycle_kernels::{Format, Kernels, Matrix, Rope, RopeLayout};

use crate::error::LoadError;
use crate::model::{Model, kv_shape};
use crate::options::{Options, WeightStorage};

/// The kernels read keys in blocks of this many dimensions.
const HEAD_MULTIPLE: usize = 16;

/// What the headers of a model's files say about running it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fit {
    /// The longest context that the model was trained for.
    pub max_context: usize,
    /// Bytes of the keys and values of a token.
    pub kv_bytes: usize,
}

impl Model {
    /// Loads a GGUF file, or a folder with a `config.json` and safetensors (or one of its files): see the [crate's page](crate).
    ///
    /// A file that another program shortens or changes meanwhile is refused, as far as its length and times tell. Once the model
    /// is loaded, nothing depends on its files.
    ///
    /// # Errors
    /// [`LoadError`]: a file cannot be read, is damaged, or holds an unsupported model.
    pub fn load(path: impl AsRef<Path>, options: &Options) -> Result<Arc<Self>, LoadError> {
        Self::load_with_progress(path, options, &mut |_, _| ())
    }

    /// Checks by the headers of its files that a model can be loaded, without reading weights.
    ///
    /// # Errors
    /// Those of [`load`](Self::load) that the headers show.
    pub fn check(path: impl AsRef<Path>, options: &Options) -> Result<Fit, LoadError> {
        let checkpoint = open(path.as_ref())?;
        checkpoint.check_tensors()?;
        let shape = kv_shape(&checkpoint.hyperparameters);
        Ok(Fit {
            max_context: checkpoint.hyperparameters.context,
            kv_bytes: shape.position_bytes(options.kv_type.into()),
        })
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
        let path = path.as_ref();
        let _span = info_span!("load", path = %path.display(), weights = ?options.weights).entered();
        let checkpoint = open(path)?;
        debug!(model = ?checkpoint.hyperparameters, "read the metadata");
        let kernels = Kernels::new(options.threads.map_or(0, Into::into))?;
        let mut packer = Packer { threads: kernels.pool().threads(), weights: options.weights };
        let weights = checkpoint.read_weights(&mut packer, progress)?;
        let layout = match checkpoint.hyperparameters.rope_layout {
            upcycle_checkpoint::RopeLayout::Interleaved => RopeLayout::Interleaved,
            upcycle_checkpoint::RopeLayout::Halves => RopeLayout::Halves,
        };
        let rope = Rope::new(layout, weights.frequencies.clone())
            .with_magnitude(checkpoint.hyperparameters.rope_scaling.magnitude());
        let kv_type = options.kv_type.into();
        Ok(Arc::new(Self { hyperparameters: checkpoint.hyperparameters, kernels, rope, kv_type, weights }))
    }
}

/// Opens a model that the kernels can run.
fn open(path: &Path) -> Result<Checkpoint, LoadError> {
    let checkpoint = Checkpoint::open(path)?;
    if !checkpoint.hyperparameters.head_dim.is_multiple_of(HEAD_MULTIPLE) {
        return Err(LoadError::HeadWidth { found: checkpoint.hyperparameters.head_dim });
    }
    for (_, tensor) in checkpoint.tensors.iter().filter(|(_, tensor)| tensor.shape.len() > 1) {
        format(tensor)?;
    }
    Ok(checkpoint)
}

/// The kernels' format of a tensor.
fn format(tensor: &TensorInfo) -> Result<Format, LoadError> {
    Format::ALL.into_iter().find(|format| format.name() == tensor.dtype.name()).ok_or_else(|| {
        LoadError::Type {
            tensor: tensor.name.clone(),
            found: tensor.dtype,
            known: Format::ALL.map(Format::name).join(", "),
        }
    })
}

/// Packs matrices for the kernels.
struct Packer {
    threads: usize,
    weights: WeightStorage,
}

impl WeightConverter for Packer {
    type Matrix = Arc<Matrix>;
    type Embedding = Arc<Matrix>;
    type Vector = Vec<f32>;
    type Error = LoadError;

    fn matrix(&mut self, stored: StoredMatrix<'_>) -> Result<Arc<Matrix>, LoadError> {
        let StoredMatrix { info, inputs, outputs, bytes } = stored;
        let pack = match self.weights {
            WeightStorage::File => Matrix::pack,
            WeightStorage::F32 => Matrix::pack_f32,
        };
        Ok(Arc::new(pack(&info.name, format(info)?, (outputs, inputs), bytes, self.threads)?))
    }

    fn embedding(&mut self, stored: StoredMatrix<'_>) -> Result<Arc<Matrix>, LoadError> {
        self.matrix(stored)
    }

    fn tied_lm_head(
        &mut self,
        _: StoredMatrix<'_>,
        embedding: &Arc<Matrix>,
    ) -> Result<Arc<Matrix>, LoadError> {
        Ok(Arc::clone(embedding))
    }

    fn vector(&mut self, values: Vec<f32>) -> Result<Vec<f32>, LoadError> {
        Ok(values)
    }
}
