//! An arm at work: one of our decoders, or a peer's server.

mod ours;
mod peer;

use upcycle_core::{RowSelection, Sampling, TokenId};

use super::BenchError;
use super::answer::{Ask, Taped};
use super::setup::{Setup, digest};
use crate::results::{Equality, MatrixState, Record, Steps};

pub(super) use ours::{Ours, arms as ours};
pub(super) use peer::{Peer, arms as peers};

/// The context of a peer, where none of our setups says one.
pub(super) const PEER_CONTEXT: usize = 8192;

/// An arm at work.
pub(super) enum Lane {
    Ours(Box<Ours>),
    Peer(Box<Peer>),
    /// An arm that is absent, or has failed.
    Silent,
}

/// One answer, as it was found.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) tokens: Vec<TokenId>,
    prompt_tokens: usize,
    prefill_seconds: f64,
    decode_tokens: usize,
    decode_seconds: f64,
    steps: Option<Steps>,
    peak_memory: Option<u64>,
    /// How it was drafted, to repeat it; empty for peers.
    pub(super) tape: Vec<Taped>,
    pub(super) prompt_rows: RowSelection,
}

impl Measured {
    pub(super) fn record(
        &self,
        arm: usize,
        round: usize,
        (question, group): (&str, &str),
        equality: Equality,
    ) -> Record {
        Record {
            arm,
            question: question.to_owned(),
            group: group.to_owned(),
            round,
            prompt_tokens: self.prompt_tokens,
            tokens: self.tokens.len(),
            digest: digest(&self.tokens),
            prefill_seconds: self.prefill_seconds,
            decode_tokens: self.decode_tokens,
            decode_seconds: self.decode_seconds,
            steps: self.steps.clone(),
            peak_memory: self.peak_memory,
            equality,
        }
    }
}

/// An error and its causes on one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    for cause in std::iter::successors(error.source(), |error| error.source()) {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

impl Lane {
    /// Makes a decoder anew, with what `matrix` says that it knows when a prompt begins.
    pub(super) fn restart(&mut self, setups: &[Setup], matrix: MatrixState) -> Result<(), BenchError> {
        match self {
            Lane::Ours(ours) => ours.restart(setups, matrix),
            Lane::Peer(peer) => {
                peer.restart();
                Ok(())
            }
            Lane::Silent => Ok(()),
        }
    }

    /// The process that works for this arm, if it is not our own.
    pub(super) fn process(&self) -> Option<u32> {
        match self {
            Lane::Peer(peer) => peer.process(),
            _ => None,
        }
    }

    pub(super) fn peer_prompts(&self) -> Option<&Vec<Vec<TokenId>>> {
        match self {
            Lane::Peer(peer) => Some(&peer.prompts),
            _ => None,
        }
    }

    pub(super) fn peer_prompts_mut(&mut self) -> Option<&mut Vec<Vec<TokenId>>> {
        match self {
            Lane::Peer(peer) => Some(&mut peer.prompts),
            _ => None,
        }
    }

    /// Answers a prompt; none if it was interrupted, or the arm is silent. An error is the arm's last words.
    pub(super) fn answer(
        &mut self,
        setups: &mut [Setup],
        prompt: usize,
        max_tokens: usize,
        sampling: Sampling,
        interrupted: &dyn Fn() -> bool,
    ) -> Result<Option<Measured>, String> {
        match self {
            Lane::Silent => Ok(None),
            Lane::Ours(ours) => ours.answer(setups, prompt, max_tokens, sampling, interrupted),
            Lane::Peer(peer) => peer.answer(prompt, max_tokens).map(Some),
        }
    }

    /// Whether what was measured is what the plain arm said.
    pub(super) fn judge(
        &self,
        setups: &mut [Setup],
        prompt: usize,
        max_tokens: usize,
        sampling: Sampling,
        (measured, plain): (&Measured, Option<&Measured>),
    ) -> Equality {
        let Some(plain) = plain else { return Equality::Unknown };
        let Some(at) = super::judge::parting(&measured.tokens, &plain.tokens) else { return Equality::Exact };
        let Lane::Ours(ours) = self else { return Equality::Differs { at } };
        let setup = &mut setups[ours.setup];
        let ask = Ask {
            prompt: &setup.prompts[prompt],
            end_of_sequence: setup.text.tokenizer.eos_ids(),
            max_tokens,
            sampling,
        };
        let Some(verifier) = &mut setup.verifier else { return Equality::Unknown };
        super::judge::judge(&mut **verifier, ask, measured, plain, at, setup.tolerance)
    }
}
