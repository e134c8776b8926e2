//! The keys and values of one sequence, on a device.

use std::ops::Range;

use candle_core::{DType, Device, Error, Tensor};

/// The cache grows by multiples of this many slots.
const BLOCK: usize = 128;

/// The shape of a model's cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DeviceKvShape {
    pub(crate) layers: usize,
    /// Heads of keys and values.
    pub(crate) kv_heads: usize,
    /// Width of a head.
    pub(crate) head_dim: usize,
}

/// Keys and values by slot: the committed positions first, then pending rows.
///
/// Each layer has keys and values, `[kv_heads, slots, head_dim]` each. So what a head reads is contiguous, and the first slots are a view.
#[derive(Debug)]
pub(crate) struct DeviceKvCache {
    shape: DeviceKvShape,
    device: Device,
    layers: Vec<[Tensor; 2]>,
    slots: usize,
    /// What a commit would move, since [`stage_accepted`](Self::stage_accepted).
    staged: Option<Copies>,
    /// What the last commit moves, from [`keep`](Self::keep) to [`write_staged`](Self::write_staged).
    unplaced: Option<Copies>,
}

/// Accepted rows: keys and values of each layer, `[kv_heads, rows, head_dim]` each.
#[derive(Debug)]
struct Copies {
    parts: Vec<Tensor>,
    /// The slot of the first.
    to: usize,
}

impl DeviceKvCache {
    /// A cache without slots.
    pub(crate) fn new(shape: DeviceKvShape, device: &Device) -> Self {
        Self { shape, device: device.clone(), layers: Vec::new(), slots: 0, staged: None, unplaced: None }
    }

    /// Grows the cache to at least `slots` slots. Growing copies it, so it grows by half at least. After an error nothing has
    /// changed.
    pub(crate) fn reserve(&mut self, slots: usize) -> Result<(), Error> {
        if slots <= self.slots {
            return Ok(());
        }
        let DeviceKvShape { layers, kv_heads, head_dim } = self.shape;
        let capacity = slots.max(self.slots + self.slots / 2).next_multiple_of(BLOCK);
        let grow = |old: Option<&Tensor>| -> Result<Tensor, Error> {
            let new = Tensor::zeros((kv_heads, capacity, head_dim), DType::F32, &self.device)?;
            if let Some(old) = old {
                new.slice_set(old, 1, 0)?;
            }
            Ok(new)
        };
        let grown = (0..layers).map(|layer| {
            let old = self.layers.get(layer);
            Ok([grow(old.map(|[keys, _]| keys))?, grow(old.map(|[_, values]| values))?])
        });
        self.layers = grown.collect::<Result<_, Error>>()?;
        self.slots = capacity;
        Ok(())
    }

    /// Writes the keys and values of consecutive rows, `[kv_heads, rows, head_dim]` each, to the slots from `slot` on.
    pub(crate) fn write(
        &self,
        layer: usize,
        slot: usize,
        keys: &Tensor,
        values: &Tensor,
    ) -> Result<(), Error> {
        let [into_keys, into_values] = &self.layers[layer];
        into_keys.slice_set(&keys.contiguous()?, 1, slot)?;
        into_values.slice_set(&values.contiguous()?, 1, slot)
    }

    /// Views of the keys and values of the first `slots` slots, `[kv_heads, slots, head_dim]` each.
    pub(crate) fn prefix(&self, layer: usize, slots: usize) -> Result<[Tensor; 2], Error> {
        let [keys, values] = &self.layers[layer];
        Ok([keys.narrow(1, 0, slots)?, values.narrow(1, 0, slots)?])
    }

    /// Copies the keys and values of slots `from`, for a commit that moves them to the slots from `to` on. Copies nothing if they
    /// lie there already. No slot changes; all memory that a commit needs is allocated here.
    pub(crate) fn stage_accepted(&mut self, from: &[u32], to: usize) -> Result<(), Error> {
        self.staged = None;
        if from.iter().zip(to..).all(|(&from, to)| from as usize == to) {
            return Ok(());
        }
        let from = Tensor::new(from, &self.device)?;
        let parts = self.layers.iter().flatten().map(|part| part.index_select(&from, 1));
        self.staged = Some(Copies { parts: parts.collect::<Result<_, Error>>()?, to });
        Ok(())
    }

    /// Commits the [staged rows](Self::stage_accepted). [`write_staged`](Self::write_staged) has to follow before the next pass.
    pub(crate) fn keep(&mut self) {
        self.unplaced = self.staged.take();
    }

    /// Writes what the last commit moves to its slots. Allocates nothing, so it fails only if the device does. May be repeated
    /// after an error, because the staged rows stay.
    pub(crate) fn write_staged(&mut self) -> Result<(), Error> {
        if let Some(Copies { parts, to }) = &self.unplaced {
            let mut pairs = self.layers.iter().flatten().zip(parts);
            pairs.try_for_each(|(part, copy)| part.slice_set(copy, 1, *to))?;
        }
        self.unplaced = None;
        Ok(())
    }

    /// Zeroes slots. A failed pass may have left a NaN there, and an additive mask does not hide a NaN.
    pub(crate) fn clear(&self, slots: Range<usize>) -> Result<(), Error> {
        let DeviceKvShape { kv_heads, head_dim, .. } = self.shape;
        let zeros = Tensor::zeros((kv_heads, slots.len(), head_dim), DType::F32, &self.device)?;
        self.layers.iter().flatten().try_for_each(|part| part.slice_set(&zeros, 1, slots.start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_and_moves_keep_every_row() -> Result<(), Error> {
        let shape = DeviceKvShape { layers: 2, kv_heads: 2, head_dim: 3 };
        let mut cache = DeviceKvCache::new(shape, &Device::Cpu);
        let value = |layer, part, slot: usize| ((layer * 2 + part) * 10_000 + slot * 10) as f32;
        let rows = |layer, part, first: usize, count: usize| {
            let values = (0..2).flat_map(|head| {
                (first..first + count).flat_map(move |slot| [value(layer, part, slot) + head as f32; 3])
            });
            Tensor::from_vec(values.collect::<Vec<f32>>(), (2, count, 3), &Device::Cpu)
        };
        let mut slots = 0;
        for count in [1, 100, 60, 300] {
            cache.reserve(slots + count)?;
            for layer in 0..2 {
                cache.write(layer, slots, &rows(layer, 0, slots, count)?, &rows(layer, 1, slots, count)?)?;
            }
            slots += count;
        }
        let check = |cache: &DeviceKvCache, source: &dyn Fn(usize) -> Option<usize>| -> Result<(), Error> {
            for layer in 0..2 {
                for (part, found) in cache.prefix(layer, slots)?.iter().enumerate() {
                    for (head, found) in found.to_vec3::<f32>()?.iter().enumerate() {
                        let value = |slot| value(layer, part, slot) + head as f32;
                        let expected = |slot| vec![source(slot).map_or(0.0, value); 3];
                        assert_eq!(*found, (0..slots).map(expected).collect::<Vec<_>>());
                    }
                }
            }
            Ok(())
        };
        check(&cache, &Some)?;
        cache.stage_accepted(&[198, 199], 198)?;
        cache.keep();
        cache.write_staged()?;
        assert!(cache.stage_accepted(&[200, 1 << 20], 198).is_err());
        // A commit that failed at another sequence does not keep what was copied.
        cache.stage_accepted(&[210, 211, 212], 198)?;
        cache.write_staged()?;
        cache.stage_accepted(&[200, 203, 207], 198)?;
        check(&cache, &Some)?;
        cache.keep();
        check(&cache, &Some)?;
        cache.write_staged()?;
        cache.clear(300..310)?;
        check(&cache, &|slot| match slot {
            198 => Some(200),
            199 => Some(203),
            200 => Some(207),
            300..310 => None,
            slot => Some(slot),
        })?;
        Ok(())
    }
}
