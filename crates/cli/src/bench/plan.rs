//! Makes the plan of a run from the arguments.

use std::path::PathBuf;

use upcycle::{Config, LoadError, Registry, local_model};
use upcycle_bench::BenchError;
use upcycle_bench::arm::{ArmSpec, setup_name};
use upcycle_bench::plan::{RunPlan, SetupPlan};
use upcycle_bench::prompts::PromptSet;

use crate::args::bench::{Measure, Setups};
use crate::failure::Failure;
use crate::input;
use crate::progress::Bar;

/// The temperature of `--sampling`.
const SAMPLING_TEMPERATURE: f32 = 0.7;
/// The peers that are measured by default if a server is given: llama.cpp's drafters with their own sizes, and with short
/// n-grams and drafts, which are faster on a CPU.
const PEERS: &str = "llama.cpp:ngram-simple,llama.cpp:ngram-simple:3:4,llama.cpp:ngram-simple:3:8,\
                     llama.cpp:ngram-map-k,llama.cpp:ngram-map-k:3:4,llama.cpp:ngram-map-k4v,\
                     llama.cpp:ngram-map-k4v:3:4,llama.cpp:ngram-mod";

pub(super) fn plan(arguments: &Measure, registry: &Registry) -> Result<RunPlan, Failure> {
    let setups = setups(&arguments.setups)?;
    let configs: Vec<Config> =
        setups.iter().map(|setup| checked(setup, registry)).collect::<Result<_, _>>()?;
    let arms = match (&arguments.arms, &arguments.llama_server) {
        (Some(arms), _) => arms.clone(),
        (None, None) => ArmSpec::DEFAULT.to_owned(),
        (None, Some(_)) => format!("{},{PEERS}", ArmSpec::DEFAULT),
    };
    let arms = ArmSpec::parse_list(&arms).map_err(BenchError::from)?;
    if arguments.arms.is_some()
        && !arms.iter().any(|arm| matches!(arm, ArmSpec::Peer(_)))
        && (arguments.llama_server.is_some() || !arguments.peer_model.is_empty())
    {
        return Err(Failure::usage("--llama-server and --peer-model need a peer in --arms; add `llama.cpp`"));
    }
    // Check the configuration of every arm before loading a model.
    for setup in &setups {
        for arm in &arms {
            arm.configure(&setup.builder(registry)?)?;
        }
    }
    let mut peer_models = arguments.peer_model.clone();
    if peer_models.is_empty() {
        for path in configs.iter().filter_map(|config| config.model().path.clone()) {
            let bar = Bar::new("fetching the model");
            let path = local_model(&path, &mut |progress| bar.set(progress))?;
            if !peer_models.contains(&path) {
                peer_models.push(path);
            }
        }
    }
    Ok(RunPlan {
        setups,
        arms: arms.iter().map(ToString::to_string).collect(),
        llama_server: arguments.llama_server.clone(),
        peer_models,
        prompts: arguments.prompts.clone(),
        per_group: arguments.per_group,
        max_tokens: arguments.max_tokens,
        rounds: arguments.rounds,
        temperature: if arguments.sampling { SAMPLING_TEMPERATURE } else { 0.0 },
        seed: 0,
        tables: arguments.tables.into(),
        max_wait_seconds: arguments.wait,
    })
}

/// Reads the configuration files. Without a file there is one setup from flags alone.
pub(super) fn setups(arguments: &Setups) -> Result<Vec<SetupPlan>, Failure> {
    let files: Vec<Option<&PathBuf>> = match arguments.config.as_slice() {
        [] => vec![None],
        files => files.iter().map(Some).collect(),
    };
    let mut names = Vec::new();
    let mut setups = Vec::new();
    for file in files {
        let read = |path: &PathBuf| -> Result<(PathBuf, String), Failure> {
            Ok((path.clone(), input::text("--config", path)?))
        };
        let name = setup_name(file.map(PathBuf::as_path), &names);
        names.push(name.clone());
        let model = arguments.model.iter();
        setups.push(SetupPlan {
            name,
            file: file.map(read).transpose()?,
            flags: model
                .map(|model| ("--model".to_owned(), "model.path".to_owned(), model.clone()))
                .collect(),
            set: arguments.set.clone(),
        });
    }
    Ok(setups)
}

/// Loads the configuration of a setup; checks that its backend is compiled in and that it names a model.
pub(super) fn checked(setup: &SetupPlan, registry: &Registry) -> Result<Config, Failure> {
    let config = setup.builder(registry)?.build()?;
    registry.check_backend(&config.backend().name).map_err(Failure::usage)?;
    if config.model().path.is_none() {
        return Err(LoadError::NoModel.into());
    }
    Ok(config)
}

/// Reads and checks the prompts of a plan.
pub(super) fn prompts(plan: &RunPlan) -> Result<PromptSet, Failure> {
    match &plan.prompts {
        None => Ok(PromptSet::built_in()),
        Some(path) if input::is_stdio(path) => Err(Failure::usage(
            "--prompts of `bench` must be a file, since --resume reads it again; `-` is standard input",
        )),
        Some(path) => PromptSet::read(path).map_err(Failure::usage),
    }
}
