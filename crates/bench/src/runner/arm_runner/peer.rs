//! Arms of peers: one server for each.

use std::path::{Path, PathBuf};

use upcycle_core::{RowSelection, TokenId};

use crate::arm::ArmSpec;
use crate::error::{BenchError, error_chain};
use crate::model_file;
use crate::peers::{LlamaServer, PeerSpec};
use crate::plan::RunPlan;
use crate::prompts::Prompt;
use crate::results::{Arm, ArmKind, ArmState};
use crate::runner::loaded_setup::{LoadedSetup, peer_prompts};
use crate::runner::measured::MeasuredAnswer;
use crate::runner::observer::RunObserver;

/// The longest context of a peer.
pub(in crate::runner) const MAX_CONTEXT: usize = 8192;

/// The arm of a peer.
pub(in crate::runner) struct PeerArm {
    launch: Launch,
    /// The server, or why it could not be started again.
    server: Result<LlamaServer, String>,
    pub(super) prompts: Vec<Vec<TokenId>>,
}

/// How to start a server.
struct Launch {
    program: PathBuf,
    model: PathBuf,
    spec: PeerSpec,
    threads: usize,
    context: usize,
}

impl Launch {
    fn start(&self) -> Result<LlamaServer, String> {
        LlamaServer::start(&self.program, &self.model, &self.spec, self.threads, self.context)
            .map_err(|error| error_chain(&error))
    }

    /// The command line without folders of this machine.
    fn command_line(&self) -> String {
        let model = model_file::name(&self.model);
        self.spec.command_line(Path::new("llama-server"), Path::new(&model), self.threads, self.context)
    }
}

/// The arms of the plan's peers, with their servers started. An absent or failed arm has no server. Indices of arms begin at
/// `first`.
pub(in crate::runner) fn arms(
    specs: &[ArmSpec],
    plan: &RunPlan,
    setups: &[LoadedSetup],
    prompts: &[Prompt],
    first: usize,
    observer: &mut dyn RunObserver,
) -> Result<Vec<(Arm, Option<PeerArm>)>, BenchError> {
    let mut arms = Vec::new();
    let peers = peers(specs);
    let absent = if plan.temperature > 0.0 {
        Some(
            "it samples with its own random numbers, so sampled answers cannot be compared; measure it without --sampling",
        )
    } else if plan.llama_server.is_none() {
        Some("llama-server is not given; build it with scripts/get-peers.sh and name it with --llama-server")
    } else {
        None
    };
    let threads = setups.iter().filter_map(|setup| setup.threads).max();
    let threads = threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    for model in plan.peer_models.iter().filter(|_| !peers.is_empty()) {
        let prompts = peer_prompts(model, prompts)?;
        let longest = prompts.iter().map(Vec::len).max().unwrap_or(0);
        // Space for the answer and for drafts beyond its end.
        let context = (longest + plan.max_tokens + 128).next_multiple_of(256).min(MAX_CONTEXT);
        let baseline = first + arms.len();
        let (setup, sha256) = (setup_name(model, &plan.peer_models), model_file::sha256(model)?);
        for &spec in &peers {
            let drafter = if spec.is_plain() { "plain".to_owned() } else { spec.drafter() };
            let name = format!("{setup} {drafter}");
            let program = plan.llama_server.clone().unwrap_or_default();
            let launch = Launch { program, model: model.clone(), spec, threads, context };
            let server = match absent {
                Some(reason) => Err(ArmState::Absent { reason: reason.to_owned() }),
                None => {
                    observer.notify(&format!("starting {name}"));
                    launch.start().map_err(|reason| ArmState::Failed { reason })
                }
            };
            let arm = Arm {
                name,
                kind: if spec.is_plain() { ArmKind::PeerPlain } else { ArmKind::PeerDraft },
                baseline,
                setup: setup.clone(),
                engine: "llama.cpp".to_owned(),
                engine_version: server.as_ref().ok().map(|server| server.version().to_owned()),
                model: model_file::name(model),
                model_sha256: sha256.clone(),
                drafter,
                nodes: spec.draft_tokens(),
                threads: Some(threads),
                config: launch.command_line(),
                state: server.as_ref().err().cloned().unwrap_or(ArmState::Measured),
            };
            let server = server.ok();
            arms.push((
                arm,
                server.map(|server| PeerArm { launch, server: Ok(server), prompts: prompts.clone() }),
            ));
        }
    }
    Ok(arms)
}

/// The peers among the arms, plain decoding first; it is the baseline of the others.
fn peers(specs: &[ArmSpec]) -> Vec<PeerSpec> {
    let peer = |spec: &ArmSpec| if let ArmSpec::Peer(peer) = spec { Some(*peer) } else { None };
    let mut peers: Vec<PeerSpec> = specs.iter().filter_map(peer).collect();
    peers.sort_by_key(|peer| !peer.is_plain());
    if peers.first().is_some_and(|peer| !peer.is_plain()) {
        peers.insert(0, PeerSpec::plain());
    }
    peers
}

/// `llama.cpp` and the weight type at the end of the model's name, or the whole name if two models share the type.
fn setup_name(model: &Path, all: &[PathBuf]) -> String {
    let stem = |path: &Path| path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let short = |path: &Path| stem(path).rsplit(['.', '-']).next().unwrap_or_default().to_owned();
    let unique = all.iter().filter(|other| short(other) == short(model)).count() == 1;
    format!("llama.cpp {}", if unique { short(model) } else { stem(model) })
}

impl PeerArm {
    /// The server's process, if it runs.
    pub(super) fn process(&self) -> Option<u32> {
        self.server.as_ref().ok().map(LlamaServer::id)
    }

    /// Restarts a server that remembers earlier prompts: its tables cannot be cleared from outside.
    pub(super) fn restart(&mut self) {
        if self.launch.spec.carries_over() {
            // The old server ends first, so that the two never share the processors.
            self.server = Err(String::new());
            self.server = self.launch.start();
        }
    }

    pub(super) fn answer(&mut self, prompt: usize, max_tokens: usize) -> Result<MeasuredAnswer, String> {
        let server = self.server.as_mut().map_err(|reason| reason.clone())?;
        server.reset_peak_memory();
        let answer = server.answer(&self.prompts[prompt], max_tokens).map_err(|error| error_chain(&error))?;
        Ok(MeasuredAnswer {
            prompt_tokens: answer.prompt_tokens,
            prefill_seconds: answer.prompt_seconds,
            decode_tokens: answer.decode_tokens,
            decode_seconds: answer.decode_seconds,
            steps: None,
            peak_memory: server.peak_memory(),
            tokens: answer.tokens,
            recorded_trees: Vec::new(),
            prompt_rows: RowSelection::Last,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_named_by_its_weight_type_unless_two_models_share_it() {
        let all = [PathBuf::from("a/Smol-135M.Q4_1.gguf"), "b/Smol-135M.Q4_0.gguf".into()];
        assert_eq!(setup_name(&all[0], &all), "llama.cpp Q4_1");
        let all = [PathBuf::from("a/x.Q4_1.gguf"), "b/y.Q4_1.gguf".into()];
        assert_eq!(setup_name(&all[1], &all), "llama.cpp y.Q4_1");
    }
}
