//! The keys and values of one sequence, in pages.

use std::collections::TryReserveError;

/// Positions of a page.
///
/// The cache grows by whole pages, so that growth never moves what is cached.
pub(crate) const PAGE: usize = 128;

/// What a cache holds of each position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KvShape {
    /// Layers of the model.
    pub(crate) layers: usize,
    /// Heads of keys and values.
    pub(crate) heads: usize,
    /// Width of a head.
    pub(crate) width: usize,
}

/// The two things that are cached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Keys = 0,
    Values = 1,
}

/// Keys and values by slot: the committed positions first, then rows that wait for a commit.
///
/// A page is `[layers, 2, heads, PAGE, width]`, so that what one head of one layer reads is contiguous.
#[derive(Debug)]
pub(crate) struct KvCache {
    shape: KvShape,
    pages: Vec<Vec<f32>>,
}

impl KvCache {
    /// A cache without pages.
    pub(crate) const fn new(shape: KvShape) -> Self {
        Self { shape, pages: Vec::new() }
    }

    /// Makes room for `slots` slots. What is cached stays where it is.
    pub(crate) fn reserve(&mut self, slots: usize) -> Result<(), TryReserveError> {
        let KvShape { layers, heads, width } = self.shape;
        let page_len = layers * 2 * heads * PAGE * width;
        while self.pages.len() * PAGE < slots {
            let mut page = Vec::new();
            page.try_reserve_exact(page_len)?;
            page.resize(page_len, 0.0);
            self.pages.push(page);
        }
        Ok(())
    }

    /// Where slot `slot` of a head stands within its page.
    fn offset(&self, layer: usize, part: Part, head: usize, slot: usize) -> usize {
        let KvShape { heads, width, .. } = self.shape;
        (((layer * 2 + part as usize) * heads + head) * PAGE + slot % PAGE) * width
    }

    /// Writes all heads of `row`, `[heads, width]`, into a slot.
    pub(crate) fn write(&mut self, layer: usize, part: Part, slot: usize, row: &[f32]) {
        for (head, values) in row.chunks_exact(self.shape.width).enumerate() {
            let offset = self.offset(layer, part, head, slot);
            self.pages[slot / PAGE][offset..][..values.len()].copy_from_slice(values);
        }
    }

    /// What a head has cached from slot `slot` on, up to `len` slots or the end of the page: `[n, width]`.
    pub(crate) fn run(&self, layer: usize, part: Part, head: usize, slot: usize, len: usize) -> &[f32] {
        let len = len.min(PAGE - slot % PAGE);
        let offset = self.offset(layer, part, head, slot);
        &self.pages[slot / PAGE][offset..][..len * self.shape.width]
    }

    /// Moves the keys and values of slot `from` to slot `to`, in all layers.
    pub(crate) fn relocate(&mut self, from: usize, to: usize) {
        if from == to {
            return;
        }
        let KvShape { layers, heads, width } = self.shape;
        let mut values = vec![0.0; width];
        for layer in 0..layers {
            for part in [Part::Keys, Part::Values] {
                for head in 0..heads {
                    values.copy_from_slice(self.run(layer, part, head, from, 1));
                    let offset = self.offset(layer, part, head, to);
                    self.pages[to / PAGE][offset..][..width].copy_from_slice(&values);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_and_moves_keep_every_row() -> Result<(), TryReserveError> {
        let shape = KvShape { layers: 2, heads: 3, width: 4 };
        let row = |layer: usize, part: Part, slot: usize| -> Vec<f32> {
            (0..12).map(|i| (((layer * 2 + part as usize) * 1000 + slot) * 12 + i) as f32).collect()
        };
        let parts = [Part::Keys, Part::Values];
        let mut cache = KvCache::new(shape);
        for slot in 0..3 * PAGE {
            cache.reserve(slot + 1)?;
            for layer in 0..2 {
                for part in parts {
                    cache.write(layer, part, slot, &row(layer, part, slot));
                }
            }
        }
        // Across a page and within one.
        let moves = [(PAGE + 5, PAGE - 2), (PAGE + 9, PAGE + 6), (2 * PAGE, PAGE)];
        for (from, to) in moves {
            cache.relocate(from, to);
        }
        for slot in 0..3 * PAGE {
            let source = moves.iter().find(|&&(_, to)| to == slot).map_or(slot, |&(from, _)| from);
            for layer in 0..2 {
                for part in parts {
                    for (head, expected) in row(layer, part, source).chunks(4).enumerate() {
                        assert_eq!(cache.run(layer, part, head, slot, 1), expected, "slot {slot}");
                    }
                }
            }
        }
        assert_eq!(cache.run(0, Part::Keys, 0, PAGE - 2, 9).len(), 2 * 4, "a run ends with its page");
        Ok(())
    }
}
