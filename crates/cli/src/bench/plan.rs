//! From flags to a plan.

use std::fs;
use std::path::PathBuf;

use upcycle::{Config, LoadError, Registry, local_model};
use upcycle_bench::arm::{ArmSpec, setup_name};
use upcycle_bench::plan::{Plan, SetupPlan};
use upcycle_bench::prompts::PromptSet;
use upcycle_bench::runner::{Asked, BenchError, Prompts};

use super::args::{Measure, Setups};
use crate::failure::Failure;
use crate::progress::Bar;

/// The temperature of `--sampling`.
const WARM: f32 = 0.7;
/// The peers that are measured if a server is given and no arms are named: llama.cpp's own drafters at their defaults, and
/// at short n-grams and drafts, which do better on a CPU.
const PEERS: &str = "llama.cpp:ngram-simple,llama.cpp:ngram-simple:3:4,llama.cpp:ngram-simple:3:8,\
                     llama.cpp:ngram-map-k,llama.cpp:ngram-map-k:3:4,llama.cpp:ngram-map-k4v,\
                     llama.cpp:ngram-map-k4v:3:4,llama.cpp:ngram-mod";

pub(super) fn plan(arguments: &Measure, registry: &Registry) -> Result<Plan, Failure> {
    let setups = setups(&arguments.setups)?;
    let configs: Vec<Config> =
        setups.iter().map(|setup| checked(setup, registry)).collect::<Result<_, _>>()?;
    let arms = match (&arguments.arms, &arguments.llama_server) {
        (Some(arms), _) => arms.clone(),
        (None, None) => ArmSpec::USUAL.to_owned(),
        (None, Some(_)) => format!("{},{PEERS}", ArmSpec::USUAL),
    };
    let arms = ArmSpec::parse_list(&arms).map_err(BenchError::from)?;
    if arguments.arms.is_some()
        && !arms.iter().any(|arm| matches!(arm, ArmSpec::Peer(_)))
        && (arguments.llama_server.is_some() || !arguments.peer_model.is_empty())
    {
        return Err(Failure::usage(
            "--arms names no peer, so --llama-server and --peer-model have no use; add `llama.cpp`",
        ));
    }
    // Every arm's settings are checked before a model is loaded.
    for setup in &setups {
        for arm in &arms {
            arm.configure(&setup.layers()?, &registry.names())?;
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
    Ok(Plan {
        setups,
        arms: arms.iter().map(ToString::to_string).collect(),
        llama_server: arguments.llama_server.clone(),
        peer_models,
        prompts: arguments.prompts.clone(),
        per_group: arguments.per_group,
        max_tokens: arguments.max_tokens,
        rounds: arguments.rounds,
        temperature: if arguments.sampling { WARM } else { 0.0 },
        seed: 0,
        matrix: arguments.matrix.into(),
        patience: arguments.wait,
    })
}

/// The configurations, read; one of flags alone if no file is named.
pub(super) fn setups(arguments: &Setups) -> Result<Vec<SetupPlan>, Failure> {
    let files: Vec<Option<&PathBuf>> = match arguments.config.as_slice() {
        [] => vec![None],
        files => files.iter().map(Some).collect(),
    };
    let mut names = Vec::new();
    let mut setups = Vec::new();
    for file in files {
        let read = |path: &PathBuf| -> Result<(PathBuf, String), Failure> {
            let text = fs::read_to_string(path)
                .map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
            Ok((path.clone(), text))
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

/// The configuration of a setup, its backend known to be there and its model named.
pub(super) fn checked(setup: &SetupPlan, registry: &Registry) -> Result<Config, Failure> {
    let config = setup.layers()?.load(&registry.names())?;
    registry.check(&config.backend().name).map_err(Failure::usage)?;
    if config.model().path.is_none() {
        return Err(LoadError::NoModel.into());
    }
    Ok(config)
}

/// The prompts of a plan, every line of their file checked.
pub(super) fn prompts(plan: &Plan) -> Result<Prompts, Failure> {
    let set = match &plan.prompts {
        None => PromptSet::own(),
        Some(path) => PromptSet::read(path).map_err(Failure::usage)?,
    };
    let asked = set.first_of_each_group(plan.per_group.unwrap_or(usize::MAX));
    Ok(Prompts {
        name: set.name().to_owned(),
        sha256: set.sha256().to_owned(),
        asked: asked
            .into_iter()
            .map(|prompt| Asked {
                question: prompt.question(),
                group: prompt.group.clone(),
                prompt: prompt.first_turn().to_owned(),
            })
            .collect(),
    })
}
