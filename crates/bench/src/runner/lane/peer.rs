//! Peers: a server for each arm.

use std::path::{Path, PathBuf};

use upcycle_core::{RowSelection, TokenId};

use super::{Lane, Measured, PEER_CONTEXT, chain};
use crate::arm::ArmSpec;
use crate::peers::{LlamaServer, PeerSpec};
use crate::plan::{Plan, file_name};
use crate::results::{Arm, ArmKind, ArmState};
use crate::runner::setup::{self, Asked, Setup};
use crate::runner::{BenchError, Watch};

/// One peer.
pub(in crate::runner) struct Peer {
    start: Start,
    /// The server, or why it could not be started again.
    server: Result<LlamaServer, String>,
    pub(super) prompts: Vec<Vec<TokenId>>,
}

/// How a server is started.
struct Start {
    program: PathBuf,
    model: PathBuf,
    spec: PeerSpec,
    threads: usize,
    context: usize,
}

impl Start {
    fn start(&self) -> Result<LlamaServer, String> {
        LlamaServer::start(&self.program, &self.model, &self.spec, self.threads, self.context)
            .map_err(|error| chain(&error))
    }
}

/// Adds the arms of peers, each with its server started.
pub(in crate::runner) fn arms(
    specs: &[ArmSpec],
    plan: &Plan,
    setups: &[Setup],
    asked: &[Asked],
    (arms, lanes): (&mut Vec<Arm>, &mut Vec<Lane>),
    watch: &mut dyn Watch,
) -> Result<(), BenchError> {
    let mut peers: Vec<PeerSpec> = specs
        .iter()
        .filter_map(|spec| if let ArmSpec::Peer(peer) = spec { Some(*peer) } else { None })
        .collect();
    if peers.is_empty() {
        return Ok(());
    }
    // A peer's drafter is held against the peer's own plain decoding.
    peers.sort_by_key(|peer| !peer.is_plain());
    if !peers[0].is_plain() {
        peers.insert(0, PeerSpec::plain());
    }
    let absent = if plan.temperature > 0.0 {
        Some("it draws with its own noise, so that sampled answers cannot be compared; measure it greedily")
    } else if plan.llama_server.is_none() {
        Some("no llama-server is given; build one with scripts/get-peers.sh and name it by --llama-server")
    } else {
        None
    };
    let threads = setups.iter().filter_map(|setup| setup.threads).max();
    let threads = threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    for model in &plan.peer_models {
        let (prompts, _) = setup::peer_prompts(model, asked)?;
        let longest = prompts.iter().map(Vec::len).max().unwrap_or(0);
        // Room for the answer, and for drafts beyond its end.
        let context = (longest + plan.max_tokens + 128).next_multiple_of(256).min(PEER_CONTEXT);
        let baseline = arms.len();
        let (name, sha256) = (peer_setup(model, &plan.peer_models), setup::sha256(model)?);
        for peer in &peers {
            let drafter = if peer.is_plain() { "plain".to_owned() } else { peer.drafter() };
            let arm_name = format!("{name} {drafter}");
            let start = Start {
                program: plan.llama_server.clone().unwrap_or_default(),
                model: model.clone(),
                spec: *peer,
                threads,
                context,
            };
            let started = match absent {
                Some(reason) => Err(ArmState::Absent { reason: reason.to_owned() }),
                None => {
                    watch.say(&format!("starting {arm_name}"));
                    start.start().map_err(|reason| ArmState::Failed { reason })
                }
            };
            // Without the folders of this machine, which say nothing to a reader.
            let command =
                peer.command_line(Path::new("llama-server"), Path::new(&file_name(model)), threads, context);
            arms.push(Arm {
                name: arm_name,
                kind: if peer.is_plain() { ArmKind::PeerPlain } else { ArmKind::PeerDraft },
                baseline,
                setup: name.clone(),
                engine: "llama.cpp".to_owned(),
                engine_version: started.as_ref().ok().map(|server| server.version().to_owned()),
                model: file_name(model),
                model_sha256: sha256.clone(),
                drafter,
                nodes: peer.draft_tokens(),
                threads: Some(threads),
                config: command,
                state: started.as_ref().err().cloned().unwrap_or(ArmState::Measured),
            });
            lanes.push(match started {
                Ok(server) => {
                    Lane::Peer(Box::new(Peer { start, server: Ok(server), prompts: prompts.clone() }))
                }
                Err(_) => Lane::Silent,
            });
        }
    }
    Ok(())
}

/// `llama.cpp` and what tells this model from the others: its type, as the end of its name has it.
fn peer_setup(model: &Path, all: &[PathBuf]) -> String {
    let stem = |path: &Path| path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let short = |path: &Path| stem(path).rsplit(['.', '-']).next().unwrap_or_default().to_owned();
    let unique = all.iter().filter(|other| short(other) == short(model)).count() == 1;
    format!("llama.cpp {}", if unique { short(model) } else { stem(model) })
}

impl Peer {
    /// The server's process, while there is one.
    pub(super) fn process(&self) -> Option<u32> {
        self.server.as_ref().ok().map(LlamaServer::id)
    }

    /// Starts a server anew where it would remember earlier prompts: nothing clears its tables from outside.
    pub(super) fn restart(&mut self) {
        if self.start.spec.carries_over() {
            // The old one ends first, so that the two never share the processors.
            self.server = Err(String::new());
            self.server = self.start.start();
        }
    }

    pub(super) fn answer(&mut self, prompt: usize, max_tokens: usize) -> Result<Measured, String> {
        let server = self.server.as_mut().map_err(|reason| reason.clone())?;
        server.reset_peak_memory();
        let answer = server.answer(&self.prompts[prompt], max_tokens).map_err(|error| chain(&error))?;
        Ok(Measured {
            prompt_tokens: answer.prompt_tokens,
            prefill_seconds: answer.prompt_seconds,
            decode_tokens: answer.decode_tokens,
            decode_seconds: answer.decode_seconds,
            steps: None,
            peak_memory: server.peak_memory(),
            tokens: answer.tokens,
            tape: Vec::new(),
            prompt_rows: RowSelection::Last,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_named_by_its_models_type_unless_two_share_it() {
        let all = [PathBuf::from("a/Smol-135M.Q4_1.gguf"), "b/Smol-135M.Q4_0.gguf".into()];
        assert_eq!(peer_setup(&all[0], &all), "llama.cpp Q4_1");
        let all = [PathBuf::from("a/x.Q4_1.gguf"), "b/y.Q4_1.gguf".into()];
        assert_eq!(peer_setup(&all[1], &all), "llama.cpp y.Q4_1");
    }
}
