//! The candle backend as the registry builds it.

use std::path::PathBuf;

use upcycle_candle::{CandleVerifier, Model, Options};

use crate::engine::{CONFIG_FILE, GRAPH_FILE, model_folder};
use crate::{Built, CandleChoice, Device, Kernels, OnProgress, Progress, Source, Weights};

/// The devices that are compiled in.
pub(crate) const DEVICES: &[&str] = match (cfg!(feature = "candle-cuda"), cfg!(feature = "candle-metal")) {
    (false, false) => &["cpu"],
    (true, false) => &["cpu", "cuda"],
    (false, true) => &["cpu", "metal"],
    (true, true) => &["cpu", "cuda", "metal"],
};

/// A graph where weights are wanted.
#[derive(Debug, thiserror::Error)]
#[error(
    "{path} is a graph for ONNX Runtime, and this backend reads GGUF files and folders of safetensors; set \
     backend.name = \"ort\", or name the file that the graph was exported from",
    path = path.display()
)]
struct GraphGiven {
    path: PathBuf,
}

pub(crate) fn build(source: Source<'_>, progress: OnProgress<'_>) -> Built {
    let folder = model_folder(source.path).unwrap_or(source.path);
    if source.gguf.is_none() && folder.join(GRAPH_FILE).exists() && !folder.join(CONFIG_FILE).exists() {
        return Err(GraphGiven { path: source.path.to_owned() }.into());
    }
    let options = options(source.config.backend().candle);
    let model = Model::load_with_progress(source.path, &options, &mut |done, total| {
        progress(Progress { done, total });
    })?;
    Ok(Box::new(CandleVerifier::new(model)))
}

fn options(choice: CandleChoice) -> Options {
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
    options.kernels = match choice.kernels {
        Kernels::Auto => None,
        Kernels::Own => Some(upcycle_candle::Products::Own),
        Kernels::Candle => Some(upcycle_candle::Products::Candle),
    };
    options.threads = choice.threads;
    options
}
