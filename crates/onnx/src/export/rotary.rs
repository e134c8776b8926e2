//! The tables of rotary embeddings.

use upcycle_checkpoint::{CheckpointError, Hyperparameters, RopeLayout};

use super::error::ExportError;

/// The longest context that can be exported: the tables have a row for every position.
const MAX_CONTEXT: usize = 1 << 22;

/// Checks that the tables of a model are not too large.
pub(crate) fn check(model: &Hyperparameters) -> Result<(), ExportError> {
    if model.context > MAX_CONTEXT {
        return Err(ExportError::Context { expected: MAX_CONTEXT, found: model.context });
    }
    Ok(())
}

/// Whether pairs are neighbours in a head, instead of half a head apart.
pub(crate) fn interleaved(model: &Hyperparameters) -> bool {
    model.rope_layout == RopeLayout::Interleaved
}

/// The optional tensor that divides frequencies, `[pairs]`.
pub(crate) const DIVISORS: &str = "rope_freqs.weight";

/// Cosines and sines, `[context, pairs]` each, with optional `divisors`, `[pairs]`.
pub(crate) fn tables(
    model: &Hyperparameters,
    divisors: Option<&[f32]>,
) -> Result<[Vec<f32>; 2], CheckpointError> {
    let frequencies = model.frequencies(divisors);
    if frequencies.iter().any(|frequency| !frequency.is_finite()) {
        return Err(CheckpointError::NotFinite { tensor: DIVISORS.to_owned() });
    }
    let magnitude = f64::from(model.rope_scaling.magnitude());
    let mut tables = [(); 2].map(|()| Vec::with_capacity(model.context * frequencies.len()));
    for position in 0..model.context {
        for frequency in &frequencies {
            let (sin, cos) = (position as f64 * frequency).sin_cos();
            tables[0].push((magnitude * cos) as f32);
            tables[1].push((magnitude * sin) as f32);
        }
    }
    Ok(tables)
}
