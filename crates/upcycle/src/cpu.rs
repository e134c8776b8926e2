//! The backend `cpu` as the registry builds it.

use upcycle_cpu::{CpuVerifier, Model, Options};

use crate::graph_given::refuse_graph;
use crate::{Built, OnProgress, Progress, Source, Weights};

pub(crate) fn build(source: Source<'_>, progress: OnProgress<'_>) -> Built {
    refuse_graph(&source)?;
    let choice = source.config.backend().cpu;
    let mut options = Options::default();
    options.threads = choice.threads;
    options.weights = match choice.weights {
        Weights::File => upcycle_cpu::Weights::File,
        Weights::F32 => upcycle_cpu::Weights::F32,
    };
    let model = Model::load_with_progress(source.path, &options, &mut |done, total| {
        progress(Progress { done, total });
    })?;
    Ok(Box::new(CpuVerifier::new(model)))
}
