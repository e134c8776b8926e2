//! The backend `candle` as the registry builds it.

use upcycle_candle::{CandleVerifier, Model, Options};

use crate::graph_given::refuse_graph;
use crate::{Built, Device, OnProgress, Progress, Source, Weights};

/// The devices that are compiled in.
pub(crate) const DEVICES: &[&str] = match (cfg!(feature = "candle-cuda"), cfg!(feature = "candle-metal")) {
    (false, false) => &["cpu"],
    (true, false) => &["cpu", "cuda"],
    (false, true) => &["cpu", "metal"],
    (true, true) => &["cpu", "cuda", "metal"],
};

pub(crate) fn build(source: Source<'_>, progress: OnProgress<'_>) -> Built {
    refuse_graph(&source)?;
    let choice = source.config.backend().candle;
    let mut options = Options::default();
    options.device = match choice.device {
        Device::Cpu => upcycle_candle::Device::Cpu,
        Device::Cuda => upcycle_candle::Device::Cuda,
        Device::Metal => upcycle_candle::Device::Metal,
    };
    options.weights = match choice.weights {
        Weights::File => upcycle_candle::Weights::File,
        Weights::F32 => upcycle_candle::Weights::F32,
    };
    let model = Model::load_with_progress(source.path, &options, &mut |done, total| {
        progress(Progress { done, total });
    })?;
    Ok(Box::new(CandleVerifier::new(model)))
}
