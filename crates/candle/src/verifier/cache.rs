//! A sequence's keys and values, by whose attention reads them.

use upcycle_core::VerifyError;

use super::failed;
use crate::kv::KvCache;
use crate::model::Body;
use crate::{Model, device, own};

/// What a commit does, in an error.
const KEEPING: &str = "keep what was accepted";

/// Keys and values, by whose attention reads them.
#[derive(Debug)]
pub(super) enum Cache {
    Own(own::Cache),
    Candle(KvCache),
    Device(device::Cache),
}

impl Cache {
    pub(super) fn new(model: &Model) -> Self {
        let kv = model.dimensions.kv;
        match model.body {
            Body::Own(_) => Cache::Own(own::Cache::new(upcycle_kernels::KvShape {
                layers: kv.layers,
                kv_heads: kv.heads,
                head_dim: kv.width,
            })),
            Body::Candle(_) => Cache::Candle(KvCache::new(kv)),
            Body::Device(ref resident) => Cache::Device(device::Cache::new(kv, &resident.device)),
        }
    }

    pub(super) fn reserve(&mut self, slots: usize) -> Result<(), VerifyError> {
        const DOING: &str = "make room for keys and values";
        match self {
            Cache::Own(cache) => cache.reserve(slots).map_err(|source| failed(DOING, source)),
            Cache::Candle(cache) => cache.reserve(slots).map_err(|source| failed(DOING, source)),
            Cache::Device(cache) => cache.reserve(slots).map_err(|source| failed(DOING, source)),
        }
    }

    /// Does all of a move of slots `from` to the slots from `to` on that may fail. No slot changes.
    pub(super) fn prepare(&mut self, from: &[usize], to: usize) -> Result<(), VerifyError> {
        match self {
            Cache::Own(_) | Cache::Candle(_) => Ok(()),
            Cache::Device(cache) => cache.copy(from, to).map_err(|source| failed(KEEPING, source)),
        }
    }

    /// Moves what slots `from`, rising and none below its place, hold to the slots from `to` on, after a
    /// [`prepare`](Self::prepare) with the same.
    pub(super) fn gather(&mut self, from: &[usize], to: usize) -> Result<(), VerifyError> {
        let moves = from.iter().copied().zip(to..);
        match self {
            Cache::Own(cache) => moves.for_each(|(from, to)| cache.relocate(from, to)),
            Cache::Candle(cache) => moves.for_each(|(from, to)| cache.relocate(from, to)),
            Cache::Device(cache) => cache.place(to).map_err(|source| failed(KEEPING, source))?,
        }
        Ok(())
    }

    pub(super) fn own(&mut self) -> Option<&mut own::Cache> {
        match self {
            Cache::Own(cache) => Some(cache),
            Cache::Candle(_) | Cache::Device(_) => None,
        }
    }

    pub(super) fn candle(&mut self) -> Option<&mut KvCache> {
        match self {
            Cache::Candle(cache) => Some(cache),
            Cache::Own(_) | Cache::Device(_) => None,
        }
    }

    pub(super) fn device(&mut self) -> Option<&mut device::Cache> {
        match self {
            Cache::Device(cache) => Some(cache),
            Cache::Own(_) | Cache::Candle(_) => None,
        }
    }
}
