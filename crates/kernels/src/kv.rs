//! The KV cache of one sequence, in pages, laid out for attention.
//!
//! A page holds 64 positions of every layer and KV head. Keys are `[head_dim][16]` for each block of 16 absolute positions, so one vector
//! holds one dimension of sixteen positions. Values are `[64][head_dim]`. Pages never move, so growth copies nothing.

use std::collections::TryReserveError;

/// Positions of a block of keys.
pub(crate) const KEYS: usize = 16;

/// Positions of a page.
pub const PAGE: usize = 64;

/// The shape of a model's KV cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvShape {
    /// Layers.
    pub layers: usize,
    /// KV heads of a layer.
    pub kv_heads: usize,
    /// Dimensions of a head; a multiple of 16.
    pub head_dim: usize,
}

/// The type of a KV cache's numbers: `f32` or [`half::f16`].
pub trait KvElement: Copy + Default + Send + Sync + std::fmt::Debug + sealed::Numeric + 'static {
    /// Its name.
    const NAME: &'static str;
    /// The nearest number of this type.
    fn from_f32(x: f32) -> Self;
    /// The same number as f32.
    fn to_f32(self) -> f32;
}

/// Elements of a cache, by type: what compiled kernels take.
#[derive(Clone, Copy, Debug)]
pub enum Numbers<'a> {
    /// Single precision.
    F32(&'a [f32]),
    /// Half precision.
    F16(&'a [half::f16]),
}

mod sealed {
    use super::Numbers;

    pub trait Numeric: Sized {
        fn numbers(slice: &[Self]) -> Numbers<'_>;
    }
    impl Numeric for f32 {
        fn numbers(slice: &[Self]) -> Numbers<'_> {
            Numbers::F32(slice)
        }
    }
    impl Numeric for half::f16 {
        fn numbers(slice: &[Self]) -> Numbers<'_> {
            Numbers::F16(slice)
        }
    }
}

impl KvElement for f32 {
    const NAME: &'static str = "f32";
    #[inline(always)]
    fn from_f32(x: f32) -> Self {
        x
    }
    #[inline(always)]
    fn to_f32(self) -> f32 {
        self
    }
}

impl KvElement for half::f16 {
    const NAME: &'static str = "f16";
    fn from_f32(x: f32) -> Self {
        half::f16::from_f32(x)
    }
    /// Shifts the bits and scales the exponent. Unlike the conversion of `half`, this vectorizes.
    #[inline(always)]
    fn to_f32(self) -> f32 {
        let bits = u32::from(self.to_bits());
        let magnitude = f32::from_bits((bits & 0x7fff) << 13) * f32::from_bits(0x7780_0000); // * 2^112
        // Infinity and NaN keep the largest exponent.
        let special = if bits & 0x7c00 == 0x7c00 { 0x7f80_0000 } else { 0 };
        f32::from_bits(magnitude.to_bits() | special | (bits & 0x8000) << 16)
    }
}

/// The keys and values of one sequence.
///
/// The caller knows how many positions are valid, so a rollback costs nothing: later positions are simply written again.
#[derive(Clone, Debug)]
pub struct KvCache<E> {
    shape: KvShape,
    pages: Vec<Box<[E]>>,
}

impl<E: KvElement> KvCache<E> {
    /// An empty cache.
    ///
    /// # Panics
    /// If `head_dim` is not a positive multiple of 16.
    #[must_use]
    pub fn new(shape: KvShape) -> Self {
        let sound = shape.head_dim > 0 && shape.head_dim.is_multiple_of(16);
        assert!(sound, "heads need a multiple of 16 dimensions, found {}", shape.head_dim);
        Self { shape, pages: Vec::new() }
    }

    /// Its shape.
    #[must_use]
    pub fn shape(&self) -> KvShape {
        self.shape
    }

    /// Positions that can be written.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.pages.len() * PAGE
    }

    /// Bytes held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.pages.len() * self.page_len() * size_of::<E>()
    }

    fn page_len(&self) -> usize {
        self.shape.layers * self.shape.kv_heads * 2 * PAGE * self.shape.head_dim
    }

    /// Makes positions `0..len` writable.
    ///
    /// # Errors
    /// If there is no memory for another page; the pages so far stay.
    pub fn reserve(&mut self, len: usize) -> Result<(), TryReserveError> {
        while self.capacity() < len {
            let mut page = Vec::new();
            page.try_reserve_exact(self.page_len())?;
            page.resize(self.page_len(), E::default());
            self.pages.push(page.into_boxed_slice());
        }
        Ok(())
    }

    /// Copies the keys and values of position `from` to position `to`, in all layers: this keeps an accepted draft.
    ///
    /// # Panics
    /// If one of them was not reserved.
    pub fn relocate(&mut self, from: usize, to: usize) {
        if from == to {
            return;
        }
        let head_dim = self.shape.head_dim;
        for part in 0..self.shape.layers * self.shape.kv_heads {
            let start = part * 2 * PAGE * head_dim;
            let key = |position: usize, dim: usize| {
                start + position % PAGE / KEYS * KEYS * head_dim + dim * KEYS + position % KEYS
            };
            let value = |position: usize, dim: usize| start + (PAGE + position % PAGE) * head_dim + dim;
            for dim in 0..head_dim {
                self.pages[to / PAGE][key(to, dim)] = self.pages[from / PAGE][key(from, dim)];
                self.pages[to / PAGE][value(to, dim)] = self.pages[from / PAGE][value(from, dim)];
            }
        }
    }

    /// A copy of the first `len` positions. O(bytes of their pages).
    ///
    /// # Errors
    /// If there is no memory for it.
    pub fn prefix(&self, len: usize) -> Result<Self, TryReserveError> {
        let mut copied = Self::new(self.shape);
        for page in &self.pages[..len.div_ceil(PAGE).min(self.pages.len())] {
            let mut copy = Vec::new();
            copy.try_reserve_exact(page.len())?;
            copy.extend_from_slice(page);
            copied.pages.push(copy.into_boxed_slice());
        }
        Ok(copied)
    }

    /// Frees all pages behind the first `len` positions.
    pub fn shrink(&mut self, len: usize) {
        self.pages.truncate(len.div_ceil(PAGE));
    }

    /// Where a layer's KV head starts in a page: its keys, then its values.
    fn part(&self, layer: usize, kv_head: usize) -> usize {
        (layer * self.shape.kv_heads + kv_head) * 2 * PAGE * self.shape.head_dim
    }

    /// Writes the keys and values of `position`, `[kv_heads * head_dim]` each.
    ///
    /// # Panics
    /// If the position was not reserved, or the slices have another length.
    pub fn write(&mut self, layer: usize, position: usize, keys: &[f32], values: &[f32]) {
        let KvShape { kv_heads, head_dim, .. } = self.shape;
        assert!(
            keys.len() == kv_heads * head_dim && values.len() == keys.len(),
            "one row of keys, one of values"
        );
        let within = position % PAGE;
        for kv_head in 0..kv_heads {
            let start = self.part(layer, kv_head);
            let part = &mut self.pages[position / PAGE][start..][..2 * PAGE * head_dim];
            let (page_keys, page_values) = part.split_at_mut(PAGE * head_dim);
            let block = &mut page_keys[within / KEYS * KEYS * head_dim..][..KEYS * head_dim];
            for (dim, &key) in keys[kv_head * head_dim..][..head_dim].iter().enumerate() {
                block[dim * KEYS + within % KEYS] = E::from_f32(key);
            }
            let row = &mut page_values[within * head_dim..][..head_dim];
            for (slot, &value) in row.iter_mut().zip(&values[kv_head * head_dim..]) {
                *slot = E::from_f32(value);
            }
        }
    }

    /// The keys of a page, `[4][head_dim][16]`, and its values, `[64][head_dim]`.
    pub(crate) fn page(&self, layer: usize, kv_head: usize, page: usize) -> (&[E], &[E]) {
        let half = PAGE * self.shape.head_dim;
        self.pages[page][self.part(layer, kv_head)..][..2 * half].split_at(half)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relocated_position_equals_a_written_one() {
        let shape = KvShape { layers: 2, kv_heads: 3, head_dim: 16 };
        let row = |layer: usize, position: usize, kind: usize| -> Vec<f32> {
            (0..48).map(|index| (((layer * 2 + kind) * 300 + position) * 48 + index) as f32).collect()
        };
        let fill = |source: &dyn Fn(usize) -> usize| {
            let mut cache = KvCache::<f32>::new(shape);
            cache.reserve(150).unwrap();
            for layer in 0..2 {
                for position in 0..150 {
                    let from = source(position);
                    cache.write(layer, position, &row(layer, from, 0), &row(layer, from, 1));
                }
            }
            cache
        };
        let mut moved = fill(&|position| position);
        let moves = [(70, 60), (75, 61), (149, 62), (3, 3)];
        moves.iter().for_each(|&(from, to)| moved.relocate(from, to));
        let expected =
            fill(&|position| moves.iter().find(|&&(_, to)| to == position).map_or(position, |m| m.0));
        assert_eq!(moved.pages, expected.pages);
    }

    #[test]
    fn half_precision_reads_as_half_does() {
        for bits in 0..=u16::MAX {
            let number = half::f16::from_bits(bits);
            let (ours, theirs) = (KvElement::to_f32(number), number.to_f32());
            assert!(ours == theirs || ours.is_nan() && theirs.is_nan(), "{bits:04x}");
        }
    }
}
