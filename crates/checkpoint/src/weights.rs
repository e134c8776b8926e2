//! Reading the weights of a model into a backend's own matrices and vectors.

use std::collections::BTreeSet;

use half::{bf16, f16};

use crate::checkpoint::Checkpoint;
use crate::error::CheckpointError;
use crate::gguf::{GgmlType, TensorInfo};

/// Bytes of the read buffer that are kept from tensor to tensor. A larger tensor gets memory of its own, freed once it is converted.
const KEPT_BUFFER: usize = 24 << 20;

/// A matrix as the file stores it.
#[derive(Clone, Copy, Debug)]
pub struct StoredMatrix<'a> {
    /// Its name in the file, type and size.
    pub info: &'a TensorInfo,
    /// Columns: the width of a row of activations.
    pub inputs: usize,
    /// Rows of weights.
    pub outputs: usize,
    /// Its blocks, row after row.
    pub bytes: &'a [u8],
}

/// What a backend makes of the tensors of a model.
pub trait WeightConverter {
    /// A matrix to multiply with.
    type Matrix;
    /// The token embedding, of which single rows are read.
    type Embedding;
    /// Norm weights or a bias.
    type Vector;
    /// Why a tensor is refused.
    type Error: From<CheckpointError>;

    /// Converts a matrix.
    ///
    /// # Errors
    /// The backend refuses the tensor.
    fn matrix(&mut self, matrix: StoredMatrix<'_>) -> Result<Self::Matrix, Self::Error>;

    /// Converts the token embedding, `[vocab, hidden_size]`.
    ///
    /// # Errors
    /// The backend refuses the tensor.
    fn embedding(&mut self, matrix: StoredMatrix<'_>) -> Result<Self::Embedding, Self::Error>;

    /// The head of a model whose head is the token embedding.
    ///
    /// # Errors
    /// The backend refuses the tensor.
    fn tied_lm_head(
        &mut self,
        matrix: StoredMatrix<'_>,
        embedding: &Self::Embedding,
    ) -> Result<Self::Matrix, Self::Error>;

    /// Converts a vector of finite values.
    ///
    /// # Errors
    /// The backend refuses the vector.
    fn vector(&mut self, values: Vec<f32>) -> Result<Self::Vector, Self::Error>;
}

/// The weights of a model: embedding `E`, matrices `M` and vectors `V` of a backend.
#[derive(Debug)]
pub struct ModelWeights<E, M, V> {
    /// The token embedding, `[vocab, hidden_size]`.
    pub embedding: E,
    /// One entry a layer.
    pub layers: Vec<LayerWeights<M, V>>,
    /// Weights of the last normalization, `[hidden_size]`.
    pub final_norm: V,
    /// The head, `[vocab, hidden_size]`.
    pub lm_head: M,
    /// Radians by which each pair of a head rotates per position, scaling included, `[rotary_dim / 2]`.
    pub frequencies: Vec<f64>,
}

/// The weights of one layer. Matrices are `[outputs, inputs]`.
#[derive(Debug)]
pub struct LayerWeights<M, V> {
    /// Normalization before attention, `[hidden_size]`.
    pub attention_norm: V,
    /// Queries, `[heads * head_dim, hidden_size]`.
    pub query: M,
    /// Keys, `[kv_heads * head_dim, hidden_size]`.
    pub key: M,
    /// Values, `[kv_heads * head_dim, hidden_size]`.
    pub value: M,
    /// Biases of queries, keys and values, where the model has them.
    pub biases: Option<[V; 3]>,
    /// Normalization of each head's queries and keys, `[head_dim]` each, where the model has it.
    pub head_norms: Option<[V; 2]>,
    /// Output of attention, `[hidden_size, heads * head_dim]`.
    pub attention_output: M,
    /// Normalization before the feed-forward network, `[hidden_size]`.
    pub feed_forward_norm: V,
    /// Gate, `[feed_forward, hidden_size]`.
    pub gate: M,
    /// Up, `[feed_forward, hidden_size]`.
    pub up: M,
    /// Down, `[hidden_size, feed_forward]`.
    pub down: M,
}

/// The [`ModelWeights`] that a [`WeightConverter`] makes.
pub type LoadedWeights<L> = ModelWeights<
    <L as WeightConverter>::Embedding,
    <L as WeightConverter>::Matrix,
    <L as WeightConverter>::Vector,
>;

impl Checkpoint {
    /// Reads all weights, tensor by tensor. Calls `progress` with the bytes read so far and the bytes of all tensors: first
    /// with 0, then after every tensor.
    ///
    /// Once this returns, nothing depends on the files.
    ///
    /// # Errors
    /// A tensor is missing, has another shape than the metadata say, is not part of the architecture, or was changed while it was
    /// read; a vector is not `F32`, `F16` or `BF16`, or holds a NaN or an infinity; the loader refuses a tensor.
    pub fn read_weights<L: WeightConverter>(
        &self,
        loader: &mut L,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<LoadedWeights<L>, L::Error> {
        let mut reader = Reader::new(self, loader, progress);
        let weights = reader.weights()?;
        reader.check_all_read()?;
        Ok(weights)
    }

    /// Checks that every tensor of the architecture is there with the right shape, and no other, without reading weights.
    ///
    /// # Errors
    /// Those of [`read_weights`](Self::read_weights) that the headers show.
    pub fn check_tensors(&self) -> Result<(), CheckpointError> {
        let (mut loader, mut progress) = (NoWeights, |_, _| ());
        let mut reader = Reader { headers_only: true, ..Reader::new(self, &mut loader, &mut progress) };
        reader.weights()?;
        reader.check_all_read()
    }
}

/// Accepts every tensor and keeps nothing.
struct NoWeights;

impl WeightConverter for NoWeights {
    type Matrix = ();
    type Embedding = ();
    type Vector = ();
    type Error = CheckpointError;

    fn matrix(&mut self, _: StoredMatrix<'_>) -> Result<(), CheckpointError> {
        Ok(())
    }

    fn embedding(&mut self, _: StoredMatrix<'_>) -> Result<(), CheckpointError> {
        Ok(())
    }

    fn tied_lm_head(&mut self, _: StoredMatrix<'_>, (): &()) -> Result<(), CheckpointError> {
        Ok(())
    }

    fn vector(&mut self, _: Vec<f32>) -> Result<(), CheckpointError> {
        Ok(())
    }
}

struct Reader<'a, L> {
    checkpoint: &'a Checkpoint,
    loader: &'a mut L,
    /// Tensors not read yet, by their names in GGUF files.
    unread: BTreeSet<&'a str>,
    buffer: Vec<u8>,
    progress: &'a mut dyn FnMut(u64, u64),
    done: u64,
    total: u64,
    /// Whether matrices are empty and vectors are ones.
    headers_only: bool,
}

impl<'a, L: WeightConverter> Reader<'a, L> {
    fn new(checkpoint: &'a Checkpoint, loader: &'a mut L, progress: &'a mut dyn FnMut(u64, u64)) -> Self {
        let tensors = || checkpoint.tensors.iter();
        let total = tensors().map(|(_, tensor)| tensor.bytes).sum();
        progress(0, total);
        let unread = tensors().map(|(name, _)| name).collect();
        Self { checkpoint, loader, unread, buffer: Vec::new(), progress, done: 0, total, headers_only: false }
    }

    fn weights(&mut self) -> Result<LoadedWeights<L>, L::Error> {
        let checkpoint = self.checkpoint;
        let (hidden_size, vocab) = (checkpoint.hyperparameters.hidden_size, checkpoint.hyperparameters.vocab);
        let frequencies = self.frequencies()?;
        let convert = |loader: &mut L, matrix: StoredMatrix<'_>| {
            let embedding = loader.embedding(matrix)?;
            let head = if checkpoint.tied { Some(loader.tied_lm_head(matrix, &embedding)?) } else { None };
            Ok((embedding, head))
        };
        let (embedding, tied_lm_head) = self.read_matrix("token_embd.weight", hidden_size, vocab, convert)?;
        let layers = (0..checkpoint.hyperparameters.layers)
            .map(|layer| self.layer(layer))
            .collect::<Result<_, _>>()?;
        let final_norm = self.vector("output_norm.weight", hidden_size)?;
        let lm_head = match tied_lm_head {
            Some(lm_head) => lm_head,
            None => self.matrix("output.weight", hidden_size, vocab)?,
        };
        Ok(ModelWeights { embedding, layers, final_norm, lm_head, frequencies })
    }

    fn layer(&mut self, layer: usize) -> Result<LayerWeights<L::Matrix, L::Vector>, L::Error> {
        let checkpoint = self.checkpoint;
        let model = &checkpoint.hyperparameters;
        let (hidden_size, head_dim, feed_forward) = (model.hidden_size, model.head_dim, model.feed_forward);
        let (queries, keys) = (model.heads * head_dim, model.kv_heads * head_dim);
        let name = |part: &str| format!("blk.{layer}.{part}");
        let biases = match checkpoint.biased {
            true => Some([
                self.vector(&name("attn_q.bias"), queries)?,
                self.vector(&name("attn_k.bias"), keys)?,
                self.vector(&name("attn_v.bias"), keys)?,
            ]),
            false => None,
        };
        let head_norms = match model.architecture.normalizes_heads() {
            true => Some([
                self.vector(&name("attn_q_norm.weight"), head_dim)?,
                self.vector(&name("attn_k_norm.weight"), head_dim)?,
            ]),
            false => None,
        };
        Ok(LayerWeights {
            attention_norm: self.vector(&name("attn_norm.weight"), hidden_size)?,
            query: self.matrix(&name("attn_q.weight"), hidden_size, queries)?,
            key: self.matrix(&name("attn_k.weight"), hidden_size, keys)?,
            value: self.matrix(&name("attn_v.weight"), hidden_size, keys)?,
            biases,
            head_norms,
            attention_output: self.matrix(&name("attn_output.weight"), queries, hidden_size)?,
            feed_forward_norm: self.vector(&name("ffn_norm.weight"), hidden_size)?,
            gate: self.matrix(&name("ffn_gate.weight"), hidden_size, feed_forward)?,
            up: self.matrix(&name("ffn_up.weight"), hidden_size, feed_forward)?,
            down: self.matrix(&name("ffn_down.weight"), feed_forward, hidden_size)?,
        })
    }

    fn frequencies(&mut self) -> Result<Vec<f64>, CheckpointError> {
        const DIVISORS: &str = "rope_freqs.weight";
        let model = &self.checkpoint.hyperparameters;
        let divisors = match self.checkpoint.tensors.has(DIVISORS) {
            true => Some(self.values(DIVISORS, model.rotary_dim / 2)?),
            false => None,
        };
        let frequencies = model.frequencies(divisors.as_deref());
        match frequencies.iter().all(|frequency| frequency.is_finite()) {
            true => Ok(frequencies),
            false => Err(CheckpointError::NotFinite { tensor: DIVISORS.to_owned() }),
        }
    }

    fn matrix(&mut self, name: &str, inputs: usize, outputs: usize) -> Result<L::Matrix, L::Error> {
        self.read_matrix(name, inputs, outputs, L::matrix)
    }

    fn read_matrix<T>(
        &mut self,
        name: &str,
        inputs: usize,
        outputs: usize,
        convert: impl FnOnce(&mut L, StoredMatrix<'_>) -> Result<T, L::Error>,
    ) -> Result<T, L::Error> {
        let info = self.read(name, &[inputs, outputs])?;
        let bytes = if self.headers_only { &[] } else { &self.buffer[..info.bytes as usize] };
        let converted = convert(self.loader, StoredMatrix { info, inputs, outputs, bytes })?;
        self.finish(name, info);
        Ok(converted)
    }

    fn vector(&mut self, name: &str, len: usize) -> Result<L::Vector, L::Error> {
        let values = self.values(name, len)?;
        self.loader.vector(values)
    }

    fn values(&mut self, name: &str, len: usize) -> Result<Vec<f32>, CheckpointError> {
        let info = self.read(name, &[len])?;
        let bytes = if self.headers_only { &[] } else { &self.buffer[..info.bytes as usize] };
        let halves =
            |decode: fn([u8; 2]) -> f32| bytes.as_chunks().0.iter().map(|&half| decode(half)).collect();
        let values: Vec<f32> = match info.dtype {
            GgmlType::F32 => bytes.as_chunks().0.iter().map(|&value| f32::from_le_bytes(value)).collect(),
            GgmlType::F16 => halves(|half| f16::from_le_bytes(half).to_f32()),
            GgmlType::Bf16 => halves(|half| bf16::from_le_bytes(half).to_f32()),
            found => return Err(CheckpointError::VectorType { tensor: info.name.clone(), found }),
        };
        let values = if self.headers_only { vec![1.0; len] } else { values };
        if values.iter().any(|value| !value.is_finite()) {
            return Err(CheckpointError::NotFinite { tensor: info.name.clone() });
        }
        self.finish(name, info);
        Ok(values)
    }

    /// Reads a tensor to the front of the buffer.
    fn read(&mut self, name: &str, shape: &[usize]) -> Result<&'a TensorInfo, CheckpointError> {
        let tensors = &self.checkpoint.tensors;
        let entry = tensors.find(name, shape)?;
        let info = entry.info();
        if self.headers_only {
            return Ok(info);
        }
        let memory = || CheckpointError::Memory { tensor: info.name.clone(), bytes: info.bytes };
        let len = usize::try_from(info.bytes).map_err(|_| memory())?;
        if self.buffer.len() < len {
            self.buffer.try_reserve_exact(len - self.buffer.len()).map_err(|_| memory())?;
            self.buffer.resize(len, 0);
        }
        tensors.read_into(entry, 0, &mut self.buffer[..len])?;
        Ok(info)
    }

    /// Notes that a tensor was read and converted.
    fn finish(&mut self, name: &str, info: &TensorInfo) {
        if self.buffer.len() > KEPT_BUFFER {
            self.buffer = Vec::new();
        }
        self.unread.remove(name);
        self.done += info.bytes;
        (self.progress)(self.done, self.total);
    }

    /// Refuses files that changed meanwhile and tensors that nothing has read: without their effect the text would be wrong.
    fn check_all_read(&self) -> Result<(), CheckpointError> {
        self.checkpoint.tensors.check_unchanged()?;
        match self.unread.first() {
            Some(&tensor) => Err(CheckpointError::UnknownTensor {
                tensor: tensor.to_owned(),
                architecture: self.checkpoint.hyperparameters.architecture.name(),
            }),
            None => Ok(()),
        }
    }
}
