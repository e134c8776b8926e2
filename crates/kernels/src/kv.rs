//! The KV cache of one sequence, in pages, laid out for attention.
//!
//! A page holds 64 positions of every layer and KV head. Keys are `[head_dim][16]` for each block of 16 absolute positions, so one vector
//! holds one dimension of sixteen positions. Values are `[64][head_dim]`. Pages never move, so growth copies nothing.

use std::collections::TryReserveError;

use half::f16;
use half::slice::HalfFloatSliceExt as _;

use crate::prefetch;

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

impl KvShape {
    /// Bytes that a position takes. A cache grows by pages of [`PAGE`] positions.
    #[must_use]
    pub const fn position_bytes(self, kv_type: KvType) -> usize {
        self.layers * self.kv_heads * 2 * self.head_dim * kv_type.bytes()
    }

    /// Numbers of a page.
    const fn page_len(self) -> usize {
        self.layers * self.kv_heads * 2 * PAGE * self.head_dim
    }

    /// Where a layer's KV head starts in a page: its keys, then its values.
    const fn part(self, layer: usize, kv_head: usize) -> usize {
        (layer * self.kv_heads + kv_head) * 2 * PAGE * self.head_dim
    }
}

/// The type of a KV cache's numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KvType {
    /// Single precision: four bytes a number.
    #[default]
    F32,
    /// Half precision: two bytes a number.
    F16,
}

impl KvType {
    /// Every type.
    pub const ALL: [KvType; 2] = [KvType::F32, KvType::F16];

    /// Bytes of a number.
    #[must_use]
    pub const fn bytes(self) -> usize {
        match self {
            KvType::F32 => 4,
            KvType::F16 => 2,
        }
    }

    /// Replaces keys or values by those that a cache of this type holds. A number beyond the type's range becomes infinite.
    ///
    /// Attention within a pass reads keys and values that are not in the cache. Rounded first, they are those that later passes read.
    pub fn round(self, values: &mut [f32]) {
        if self == KvType::F16 {
            let mut halves = [f16::ZERO; 64];
            for values in values.chunks_mut(halves.len()) {
                let halves = &mut halves[..values.len()];
                halves.convert_from_f32_slice(values);
                values.iter_mut().zip(halves).for_each(|(value, half)| *value = half.to_f32());
            }
        }
    }
}

/// The type of a cache's numbers, as compiled code takes it.
pub(crate) trait KvElement: Copy + Default {
    /// Writes the nearest numbers of this type.
    fn convert(from: &[f32], to: &mut [Self]);
    /// The same number as f32.
    fn to_f32(self) -> f32;
}

impl KvElement for f32 {
    fn convert(from: &[f32], to: &mut [Self]) {
        to.copy_from_slice(from);
    }
    #[inline(always)]
    fn to_f32(self) -> f32 {
        self
    }
}

impl KvElement for f16 {
    fn convert(from: &[f32], to: &mut [Self]) {
        to.convert_from_f32_slice(from);
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

/// Elements of a cache, by type.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Numbers<'a> {
    F32(&'a [f32]),
    F16(&'a [f16]),
}

impl<'a> Numbers<'a> {
    /// The first `len` numbers.
    pub(crate) fn first(self, len: usize) -> Self {
        match self {
            Self::F32(numbers) => Self::F32(&numbers[..len]),
            Self::F16(numbers) => Self::F16(&numbers[..len]),
        }
    }

    pub(crate) fn prefetch(self) {
        match self {
            Self::F32(numbers) => prefetch::slice(numbers),
            Self::F16(numbers) => prefetch::slice(numbers),
        }
    }
}

/// The keys and values of one sequence.
///
/// The caller knows how many positions are valid, so a rollback costs nothing: later positions are simply written again.
#[derive(Clone, Debug)]
pub struct KvCache {
    shape: KvShape,
    pages: Pages,
}

type PagesOf<E> = Vec<Box<[E]>>;

#[derive(Clone, Debug, PartialEq)]
enum Pages {
    F32(PagesOf<f32>),
    F16(PagesOf<f16>),
}

/// Runs an expression with the pages of either type.
macro_rules! with_pages {
    ($all:expr, $pages:ident => $run:expr) => {
        match $all {
            Pages::F32($pages) => $run,
            Pages::F16($pages) => $run,
        }
    };
}

impl KvCache {
    /// An empty cache.
    ///
    /// # Panics
    /// If `head_dim` is not a positive multiple of 16.
    #[must_use]
    pub fn new(shape: KvShape, kv_type: KvType) -> Self {
        let sound = shape.head_dim > 0 && shape.head_dim.is_multiple_of(16);
        assert!(sound, "heads need a multiple of 16 dimensions, found {}", shape.head_dim);
        let pages = match kv_type {
            KvType::F32 => Pages::F32(Vec::new()),
            KvType::F16 => Pages::F16(Vec::new()),
        };
        Self { shape, pages }
    }

    /// Its shape.
    #[must_use]
    pub fn shape(&self) -> KvShape {
        self.shape
    }

    /// The type of its numbers.
    #[must_use]
    pub fn kv_type(&self) -> KvType {
        match self.pages {
            Pages::F32(_) => KvType::F32,
            Pages::F16(_) => KvType::F16,
        }
    }

    /// Positions that can be written.
    #[must_use]
    pub fn capacity(&self) -> usize {
        with_pages!(&self.pages, pages => pages.len()) * PAGE
    }

    /// Bytes held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.capacity() * self.shape.position_bytes(self.kv_type())
    }

    /// Makes positions `0..len` writable.
    ///
    /// # Errors
    /// If there is no memory for another page; the pages so far stay.
    pub fn reserve(&mut self, len: usize) -> Result<(), TryReserveError> {
        let (count, page_len) = (len.div_ceil(PAGE), self.shape.page_len());
        with_pages!(&mut self.pages, pages => reserve(pages, count, page_len))
    }

    /// Copies the keys and values of position `from` to position `to`, in all layers: this keeps an accepted draft.
    ///
    /// # Panics
    /// If one of them was not reserved.
    pub fn relocate(&mut self, from: usize, to: usize) {
        if from != to {
            with_pages!(&mut self.pages, pages => relocate(pages, self.shape, from, to));
        }
    }

    /// A copy of the first `len` positions. O(bytes of their pages).
    ///
    /// # Errors
    /// If there is no memory for it.
    pub fn prefix(&self, len: usize) -> Result<Self, TryReserveError> {
        let count = len.div_ceil(PAGE);
        let pages = match &self.pages {
            Pages::F32(pages) => Pages::F32(copy(pages, count)?),
            Pages::F16(pages) => Pages::F16(copy(pages, count)?),
        };
        Ok(Self { shape: self.shape, pages })
    }

    /// Frees all pages behind the first `len` positions.
    pub fn shrink(&mut self, len: usize) {
        with_pages!(&mut self.pages, pages => pages.truncate(len.div_ceil(PAGE)));
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
        with_pages!(&mut self.pages, pages => {
            let page = &mut pages[position / PAGE];
            for kv_head in 0..kv_heads {
                let part = &mut page[self.shape.part(layer, kv_head)..][..2 * PAGE * head_dim];
                let columns = kv_head * head_dim..(kv_head + 1) * head_dim;
                write(part, position % PAGE, &keys[columns.clone()], &values[columns]);
            }
        });
    }

    /// The keys of a page, `[4][head_dim][16]`, and its values, `[64][head_dim]`.
    pub(crate) fn page(&self, layer: usize, kv_head: usize, page: usize) -> (Numbers<'_>, Numbers<'_>) {
        let (start, half) = (self.shape.part(layer, kv_head), PAGE * self.shape.head_dim);
        match &self.pages {
            Pages::F32(pages) => {
                let (keys, values) = pages[page][start..][..2 * half].split_at(half);
                (Numbers::F32(keys), Numbers::F32(values))
            }
            Pages::F16(pages) => {
                let (keys, values) = pages[page][start..][..2 * half].split_at(half);
                (Numbers::F16(keys), Numbers::F16(values))
            }
        }
    }
}

fn reserve<E: KvElement>(
    pages: &mut PagesOf<E>,
    count: usize,
    page_len: usize,
) -> Result<(), TryReserveError> {
    while pages.len() < count {
        let mut page = Vec::new();
        page.try_reserve_exact(page_len)?;
        page.resize(page_len, E::default());
        pages.push(page.into_boxed_slice());
    }
    Ok(())
}

fn copy<E: KvElement>(pages: &PagesOf<E>, count: usize) -> Result<PagesOf<E>, TryReserveError> {
    let copy = |page: &[E]| {
        let mut copy = Vec::new();
        copy.try_reserve_exact(page.len())?;
        copy.extend_from_slice(page);
        Ok(copy.into_boxed_slice())
    };
    pages.iter().take(count).map(|page| copy(page)).collect()
}

fn relocate<E: KvElement>(pages: &mut PagesOf<E>, shape: KvShape, from: usize, to: usize) {
    let head_dim = shape.head_dim;
    for part in 0..shape.layers * shape.kv_heads {
        let start = part * 2 * PAGE * head_dim;
        let key = |position: usize, dim: usize| {
            start + position % PAGE / KEYS * KEYS * head_dim + dim * KEYS + position % KEYS
        };
        let value = |position: usize, dim: usize| start + (PAGE + position % PAGE) * head_dim + dim;
        for dim in 0..head_dim {
            pages[to / PAGE][key(to, dim)] = pages[from / PAGE][key(from, dim)];
            pages[to / PAGE][value(to, dim)] = pages[from / PAGE][value(from, dim)];
        }
    }
}

/// Writes a head's key and value to place `within` of its part of a page.
fn write<E: KvElement>(part: &mut [E], within: usize, key: &[f32], value: &[f32]) {
    let head_dim = key.len();
    let (keys, values) = part.split_at_mut(PAGE * head_dim);
    let block = &mut keys[within / KEYS * KEYS * head_dim..][..KEYS * head_dim];
    let mut converted = [E::default(); KEYS];
    for (block, key) in block.chunks_exact_mut(KEYS * KEYS).zip(key.chunks_exact(KEYS)) {
        E::convert(key, &mut converted);
        for (row, &key) in block.chunks_exact_mut(KEYS).zip(&converted) {
            row[within % KEYS] = key;
        }
    }
    E::convert(value, &mut values[within * head_dim..][..head_dim]);
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
        let fill = |kv_type, source: &dyn Fn(usize) -> usize| {
            let mut cache = KvCache::new(shape, kv_type);
            cache.reserve(150).unwrap();
            for layer in 0..2 {
                for position in 0..150 {
                    let from = source(position);
                    cache.write(layer, position, &row(layer, from, 0), &row(layer, from, 1));
                }
            }
            cache
        };
        let moves = [(70, 60), (75, 61), (149, 62), (3, 3)];
        let source =
            |position| moves.iter().find(|&&(_, to)| to == position).map_or(position, |&(from, _)| from);
        for kv_type in KvType::ALL {
            let mut moved = fill(kv_type, &|position| position);
            moves.iter().for_each(|&(from, to)| moved.relocate(from, to));
            assert_eq!(moved.pages, fill(kv_type, &source).pages);
            let kept = moved.prefix(130).unwrap();
            assert_eq!((kept.kv_type(), kept.capacity()), (kv_type, 192));
            assert_eq!(kept.bytes(), 192 * 2 * 3 * 16 * 2 * kv_type.bytes());
        }
    }

    #[test]
    fn rounded_numbers_are_those_that_a_cache_holds() {
        let numbers: Vec<f32> = (0..100).map(|index| (index as f32 - 50.0) * 1.337e-3).collect();
        for kv_type in KvType::ALL {
            let mut rounded = numbers.clone();
            kv_type.round(&mut rounded);
            let expected = numbers.iter().map(|&number| match kv_type {
                KvType::F32 => number,
                KvType::F16 => f16::from_f32(number).to_f32(),
            });
            assert!(expected.eq(rounded.iter().copied()));
            let mut again = rounded.clone();
            kv_type.round(&mut again);
            assert_eq!(rounded, again);
        }
        let mut large = [70_000.0];
        KvType::F16.round(&mut large);
        assert_eq!(large, [f32::INFINITY]);
    }

    #[test]
    fn half_precision_reads_as_half_does() {
        for bits in 0..=u16::MAX {
            let number = f16::from_bits(bits);
            let (ours, theirs) = (KvElement::to_f32(number), number.to_f32());
            assert!(ours == theirs || ours.is_nan() && theirs.is_nan(), "{bits:04x}");
        }
    }
}
