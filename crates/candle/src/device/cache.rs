//! The keys and values of one sequence, on a device.

use candle_core::{DType, Device, Error, Tensor};

use crate::kv::{KvShape, PAGE};

/// Keys and values by slot: the committed positions first, then rows that wait for a commit.
///
/// For each layer keys and values, `[heads, slots, width]` each, so that what a head reads is contiguous and a prefix of the
/// slots is a view.
#[derive(Debug)]
pub(crate) struct Cache {
    shape: KvShape,
    device: Device,
    layers: Vec<[Tensor; 2]>,
    slots: usize,
}

impl Cache {
    /// A cache without slots.
    pub(crate) fn new(shape: KvShape, device: &Device) -> Self {
        Self { shape, device: device.clone(), layers: Vec::new(), slots: 0 }
    }

    /// Makes room for `slots` slots, and for half as many again where the cache grows, since growing copies it. On an error
    /// nothing has changed.
    pub(crate) fn reserve(&mut self, slots: usize) -> Result<(), Error> {
        if slots <= self.slots {
            return Ok(());
        }
        let KvShape { layers, heads, width } = self.shape;
        let room = slots.max(self.slots + self.slots / 2).next_multiple_of(PAGE);
        let grow = |old: Option<&Tensor>| -> Result<Tensor, Error> {
            let new = Tensor::zeros((heads, room, width), DType::F32, &self.device)?;
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
        self.slots = room;
        Ok(())
    }

    /// Writes keys and values of neighbouring rows, `[heads, rows, width]`, from slot `slot` on.
    pub(super) fn write(
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

    /// Keys and values of the first `slots` slots, `[heads, slots, width]`: views, nothing is copied.
    pub(super) fn prefix(&self, layer: usize, slots: usize) -> Result<[Tensor; 2], Error> {
        let [keys, values] = &self.layers[layer];
        Ok([keys.narrow(1, 0, slots)?, values.narrow(1, 0, slots)?])
    }

    /// Moves the keys and values of slots `from` to the slots from `to` on, in all layers. Nothing moves if they lie there.
    pub(crate) fn gather(&self, from: &[usize], to: usize) -> Result<(), Error> {
        if from.iter().enumerate().all(|(index, &slot)| slot == to + index) {
            return Ok(());
        }
        let from: Vec<u32> = from.iter().map(|&slot| slot as u32).collect();
        let count = from.len();
        let from = Tensor::from_vec(from, count, &self.device)?;
        for part in self.layers.iter().flatten() {
            part.slice_set(&part.index_select(&from, 1)?, 1, to)?;
        }
        Ok(())
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
        cache.gather(&[200, 203, 207], 198)?;
        let source = |slot: usize| match slot {
            198 => 200,
            199 => 203,
            200 => 207,
            slot => slot,
        };
        for layer in 0..2 {
            for (part, found) in cache.prefix(layer, slots)?.iter().enumerate() {
                for (head, found) in found.to_vec3::<f32>()?.iter().enumerate() {
                    let expected = |slot| vec![value(layer, part, source(slot)) + head as f32; 3];
                    assert_eq!(*found, (0..slots).map(expected).collect::<Vec<_>>());
                }
            }
        }
        Ok(())
    }
}
