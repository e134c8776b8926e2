//! What of a model the graph depends on beside its sizes.

use std::path::Path;

use upcycle_gguf::{Gguf, Hyperparameters};

use crate::ExportError;

/// The architectures that are exported.
const ARCHITECTURES: &[&str] = &["llama", "qwen2", "qwen3"];

/// The graph holds the angles of every position.
const MAX_CONTEXT: usize = 1 << 22;

/// The sizes of the model in a GGUF file.
pub(crate) fn read(path: &Path, gguf: &Gguf) -> Result<Hyperparameters, ExportError> {
    let model = Hyperparameters::read(gguf, ARCHITECTURES)
        .map_err(|source| ExportError::of_metadata(path, source))?;
    if model.context > MAX_CONTEXT {
        return Err(ExportError::Metadata {
            key: format!("{}.context_length", model.architecture),
            expected: format!("at most {MAX_CONTEXT}"),
            found: model.context.to_string(),
        });
    }
    Ok(model)
}

/// Whether pairs that turn are neighbours in a head, as in llama's files; else they stand half a head apart.
pub(crate) fn interleaved(model: &Hyperparameters) -> bool {
    model.architecture == "llama"
}

/// Cosines and sines, `[context, pairs]` each; `divisors` has a number for each pair.
pub(crate) fn angles(model: &Hyperparameters, divisors: &[f32]) -> [Vec<f32>; 2] {
    let frequencies: Vec<f64> =
        model.frequencies().map(|frequency| frequency / f64::from(model.rope_factor)).collect();
    let mut tables = [Vec::new(), Vec::new()];
    for position in 0..model.context {
        for (frequency, &divisor) in frequencies.iter().zip(divisors) {
            let (sin, cos) = (position as f64 * frequency / f64::from(divisor)).sin_cos();
            tables[0].push(cos as f32);
            tables[1].push(sin as f32);
        }
    }
    tables
}
