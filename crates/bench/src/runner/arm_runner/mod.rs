//! An arm at work: a decoder on one of our backends, or a peer's server.

mod backend;
mod peer;

use upcycle_core::TokenId;

use super::answer::DecodeSettings;
use super::judge;
use super::loaded_setup::LoadedSetup;
use super::measured::MeasuredAnswer;
use crate::error::BenchError;
use crate::results::{Equality, InitialTables};

pub(super) use backend::{BackendArm, arms as backend_arms};
pub(super) use peer::{MAX_CONTEXT, PeerArm, arms as peer_arms};

/// An arm at work.
pub(super) enum ArmRunner {
    Backend(Box<BackendArm>),
    Peer(Box<PeerArm>),
    /// An absent or failed arm.
    Inactive,
}

impl ArmRunner {
    /// Resets what the arm has learned to `tables`.
    pub(super) fn restart(
        &mut self,
        setups: &[LoadedSetup],
        tables: InitialTables,
    ) -> Result<(), BenchError> {
        match self {
            Self::Backend(arm) => arm.restart(setups, tables)?,
            Self::Peer(arm) => arm.restart(),
            Self::Inactive => {}
        }
        Ok(())
    }

    /// The process of a peer.
    pub(super) fn process(&self) -> Option<u32> {
        match self {
            Self::Peer(arm) => arm.process(),
            _ => None,
        }
    }

    /// The encoded prompts of a peer.
    pub(super) fn peer_prompts(&mut self) -> Option<&mut Vec<Vec<TokenId>>> {
        match self {
            Self::Peer(arm) => Some(&mut arm.prompts),
            _ => None,
        }
    }

    /// Answers a prompt; none if interrupted or inactive. The error says why the arm failed.
    pub(super) fn answer(
        &mut self,
        setups: &mut [LoadedSetup],
        prompt: usize,
        settings: DecodeSettings,
        interrupted: &dyn Fn() -> bool,
    ) -> Result<Option<MeasuredAnswer>, String> {
        match self {
            Self::Inactive => Ok(None),
            Self::Backend(arm) => arm.answer(setups, prompt, settings, interrupted),
            Self::Peer(arm) => arm.answer(prompt, settings.max_tokens).map(Some),
        }
    }

    /// Compares a measured answer with plain decoding's.
    pub(super) fn judge(
        &self,
        setups: &mut [LoadedSetup],
        prompt: usize,
        settings: DecodeSettings,
        measured: &MeasuredAnswer,
        plain: Option<&MeasuredAnswer>,
    ) -> Equality {
        let Some(plain) = plain else { return Equality::Unknown };
        let Some(at) = judge::first_difference(&measured.tokens, &plain.tokens) else {
            return Equality::Exact;
        };
        let Self::Backend(arm) = self else { return Equality::Differs { at } };
        let setup = &mut setups[arm.setup];
        let Some(mut verifier) = setup.verifier.take() else { return Equality::Unknown };
        let request = setup.request(prompt, settings);
        let equality = judge::judge(&mut *verifier, request, measured, plain, at, setup.tolerance);
        setup.verifier = Some(verifier);
        equality
    }
}
