//! `upcycle export`.

use upcycle::{Progress, local_model};
use upcycle_onnx::export::{CONFIG_FILE, ExportOptions, WeightType};

use crate::args::Export;
use crate::failure::Failure;
use crate::output::Output;
use crate::progress::Bar;

pub(crate) fn export(arguments: &Export, output: &mut Output) -> Result<(), Failure> {
    let mut options = ExportOptions::default();
    let weights = WeightType::ALL.into_iter().find(|weights| weights.name() == arguments.weights);
    // The flag accepts only these names.
    options.weights = weights.unwrap_or(options.weights);
    options.block = arguments.block;
    let bar = Bar::new("fetching the model");
    let model = local_model(&arguments.model, &mut |progress| bar.set(progress))?;
    drop(bar);
    let bar = Bar::new("exporting the model");
    let exported = upcycle_onnx::export::export(&model, &arguments.to, options, &mut |done, total| {
        bar.set(Progress { done, total });
    })
    .map_err(Failure::failed)?;
    drop(bar);
    output.line(&format!(
        "{}: {} with weights in {}, {:.1} MB, {} nodes; try `upcycle run --config {}`",
        arguments.to.display(),
        exported.architecture,
        options.weights.name(),
        exported.bytes as f64 / 1e6,
        exported.nodes,
        arguments.to.join(CONFIG_FILE).display(),
    ))
}
