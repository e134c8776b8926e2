//! `upcycle serve`.

use upcycle::{CostCache, Engine, EngineError, LoadError, Registry};
use upcycle_core::SamplingConfig;

use crate::args::Serve;
use crate::config;
use crate::failure::Failure;
use crate::interrupt;
use crate::output::print_status;
use crate::progress::Bar;

pub(crate) fn serve(arguments: Serve, registry: &Registry) -> Result<(), Failure> {
    let mut builder = config::builder(&arguments.settings, registry)?;
    let flags = [
        ("--host", "server.host", &arguments.host),
        ("--port", "server.port", &arguments.port),
        ("--model-name", "server.model_name", &arguments.model_name),
        ("--api-key-file", "server.api_key_file", &arguments.api_key_file),
    ];
    for (flag, key, value) in flags {
        if let Some(value) = value {
            builder.flag(flag, key, value)?;
        }
    }
    let config = builder.build()?;
    config::start_log(&builder, &config, Some(&arguments.settings));
    let options = config.server().clone();
    let mut keys = arguments.api_key;
    if let Some(file) = &options.api_key_file {
        keys.extend(upcycle_serve::read_api_keys(file).map_err(Failure::usage)?);
    }
    // Found out before the port is taken.
    registry.check_backend(&config.backend().name).map_err(Failure::usage)?;
    if config.model().path.is_none() {
        return Err(LoadError::NoModel.into());
    }
    let registry = registry.clone();
    let load = move || {
        let bar = Bar::new("loading the model");
        let engine =
            Engine::load(&config, &registry, &CostCache::user_cache(), &mut |progress| bar.set(progress))?;
        drop(bar);
        print_status(&defaults(&engine.suggested_sampling()));
        Ok::<_, EngineError>(engine)
    };
    let on_listening = |address| {
        // The server ends by the first signal once its requests are answered. The second ends the process.
        interrupt::listen();
        print_status(&format!("listening on http://{address}"));
    };
    upcycle_serve::run(options, keys, load, on_listening).map_err(Failure::failed)
}

/// How tokens are chosen for a request that does not say.
fn defaults(sampling: &SamplingConfig) -> String {
    let SamplingConfig { temperature, top_k, top_p, min_p, repeat_penalty, .. } = sampling;
    format!(
        "ready; unless a request says otherwise: temperature {temperature}, top_k {top_k}, top_p {top_p}, min_p {min_p}, \
         repetition_penalty {repeat_penalty}"
    )
}
