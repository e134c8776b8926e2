//! The keys and values of one sequence, on a device.

use std::ops::Range;

use candle_core::{DType, Device, Error, Tensor};

/// The cache grows by multiples of this many slots.
const BLOCK: usize = 128;

/// The shape of a model's cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KvShape {
    pub(crate) layers: usize,
    /// Heads of keys and values.
    pub(crate) heads: usize,
    /// Width of a head.
    pub(crate) width: usize,
}

/// Keys and values by slot: the committed positions first, then rows that wait for a commit.
///
/// Each layer has keys and values, `[heads, slots, width]` each. So what a head reads is contiguous, and the first slots are a view.
#[derive(Debug)]
pub(crate) struct Cache {
    shape: KvShape,
    device: Device,
    layers: Vec<[Tensor; 2]>,
    slots: usize,
    /// What a commit moves, between [`copy`](Self::copy) and [`place`](Self::place): keys and values of each layer.
    copies: Vec<Tensor>,
}

impl Cache {
    /// A cache without slots.
    pub(crate) fn new(shape: KvShape, device: &Device) -> Self {
        Self { shape, device: device.clone(), layers: Vec::new(), slots: 0, copies: Vec::new() }
    }

    /// Grows the cache to at least `slots` slots. Growing copies it, so it grows by half at least. After an error nothing has
    /// changed.
    pub(crate) fn reserve(&mut self, slots: usize) -> Result<(), Error> {
        if slots <= self.slots {
            return Ok(());
        }
        let KvShape { layers, heads, width } = self.shape;
        let capacity = slots.max(self.slots + self.slots / 2).next_multiple_of(BLOCK);
        let grow = |old: Option<&Tensor>| -> Result<Tensor, Error> {
            let new = Tensor::zeros((heads, capacity, width), DType::F32, &self.device)?;
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

    /// Writes the keys and values of consecutive rows, `[heads, rows, width]` each, to the slots from `slot` on.
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

    /// Views of the keys and values of the first `slots` slots, `[heads, slots, width]` each.
    pub(crate) fn prefix(&self, layer: usize, slots: usize) -> Result<[Tensor; 2], Error> {
        let [keys, values] = &self.layers[layer];
        Ok([keys.narrow(1, 0, slots)?, values.narrow(1, 0, slots)?])
    }

    /// Copies the keys and values of slots `from`, for [`place`](Self::place) to write to the slots from `to` on. Copies nothing
    /// if they lie there already. No slot changes; all memory that a commit needs is allocated here.
    pub(crate) fn copy(&mut self, from: &[u32], to: usize) -> Result<(), Error> {
        self.copies.clear();
        if from.iter().zip(to..).all(|(&from, to)| from as usize == to) {
            return Ok(());
        }
        let from = Tensor::new(from, &self.device)?;
        let copies = self.layers.iter().flatten().map(|part| part.index_select(&from, 1));
        self.copies = copies.collect::<Result<_, Error>>()?;
        Ok(())
    }

    /// Writes the last [copies](Self::copy) to the slots from `to` on. Allocates nothing, so it fails only if the device does.
    pub(crate) fn place(&mut self, to: usize) -> Result<(), Error> {
        let mut parts = self.layers.iter().flatten().zip(self.copies.drain(..));
        parts.try_for_each(|(part, copy)| part.slice_set(&copy, 1, to))
    }

    /// Zeroes slots. A failed pass may have left a NaN there, and an additive mask does not hide a NaN.
    pub(crate) fn clear(&self, slots: Range<usize>) -> Result<(), Error> {
        let KvShape { heads, width, .. } = self.shape;
        let zeros = Tensor::zeros((heads, slots.len(), width), DType::F32, &self.device)?;
        self.layers.iter().flatten().try_for_each(|part| part.slice_set(&zeros, 1, slots.start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_and_moves_keep_every_row() -> Result<(), Error> {
        let shape = KvShape { layers: 2, heads: 2, width: 3 };
        let mut cache = Cache::new(shape, &Device::Cpu);
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
        let check = |cache: &Cache, source: &dyn Fn(usize) -> Option<usize>| -> Result<(), Error> {
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
        cache.copy(&[198, 199], 198)?;
        cache.place(198)?;
        assert!(cache.copy(&[200, 1 << 20], 198).is_err());
        cache.copy(&[200, 203, 207], 198)?;
        check(&cache, &Some)?;
        cache.place(198)?;
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
