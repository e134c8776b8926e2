//! The candle backend as the registry builds it.

use upcycle_candle::{CandleVerifier, Model, Options};

use crate::{Built, CandleChoice, Device, Kernels, OnProgress, Progress, Source, Weights};

pub(crate) fn build(source: Source<'_>, progress: OnProgress<'_>) -> Built {
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
