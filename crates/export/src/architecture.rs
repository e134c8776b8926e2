//! What of a model the graph depends on beside its sizes.

use std::path::Path;

use upcycle_gguf::{Gguf, Hyperparameters, RopeLayout};

use crate::ExportError;

/// The graph holds the angles of every position.
const MAX_CONTEXT: usize = 1 << 22;

/// The sizes of the model in a GGUF file.
pub(crate) fn read(path: &Path, gguf: &Gguf) -> Result<Hyperparameters, ExportError> {
    let model = Hyperparameters::read(gguf).map_err(|source| ExportError::of_metadata(path, source))?;
    if model.context > MAX_CONTEXT {
        return Err(ExportError::Metadata {
            key: format!("{}.context_length", model.architecture),
            expected: format!("at most {MAX_CONTEXT}"),
            found: model.context.to_string(),
        });
    }
    if let Some(window) = &model.window {
        return Err(ExportError::Metadata {
            key: format!("{}.attention.sliding_window", model.architecture),
            expected: format!("none, or at least the context of {}: windows are not exported", model.context),
            found: window.positions.to_string(),
        });
    }
    Ok(model)
}

/// Whether pairs that turn are neighbours in a head; else they stand half a head apart.
pub(crate) fn interleaved(model: &Hyperparameters) -> bool {
    model.rope_layout == RopeLayout::Interleaved
}

/// Cosines and sines, `[context, pairs]` each; `divisors` has a number for each pair.
pub(crate) fn angles(model: &Hyperparameters, divisors: Option<&[f32]>) -> [Vec<f32>; 2] {
    let frequencies = model.frequencies(divisors);
    let magnitude = f64::from(model.rope_scaling.magnitude());
    let mut tables = [Vec::new(), Vec::new()];
    for position in 0..model.context {
        for frequency in &frequencies {
            let (sin, cos) = (position as f64 * frequency).sin_cos();
            tables[0].push((magnitude * cos) as f32);
            tables[1].push((magnitude * sin) as f32);
        }
    }
    tables
}
