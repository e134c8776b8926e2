//! A model's file in memory, and typed views of its bytes: the only unsafe code of the crate.
#![expect(unsafe_code, reason = "mapping a file, and reading blocks in place, cannot be said in safe Rust")]

use std::fs::File;
use std::io;
use std::marker::PhantomData;
use std::sync::Arc;

use candle_core::quantized::k_quants::{
    BlockQ2K, BlockQ3K, BlockQ4_0, BlockQ4_1, BlockQ4K, BlockQ5_0, BlockQ5_1, BlockQ5K, BlockQ6K, BlockQ8_0,
    BlockQ8_1, BlockQ8K,
};
use half::{bf16, f16};
use memmap2::{Mmap, MmapMut};

/// Bytes that start where a page of memory does: a file mapped for reading, or a copy of a part of one.
///
/// A mapped file must stay as it is: another process that shortens it makes reads fault, as with every program that maps its
/// model. That it is replaced or removed does no harm: the map is of the old file.
#[derive(Clone, Debug)]
pub(crate) struct Mapped(Arc<Mmap>);

impl Mapped {
    /// Maps all of `file`.
    pub(crate) fn of_file(file: &File) -> io::Result<Self> {
        // SAFETY: the map is private and read-only. That nobody changes the file meanwhile cannot be enforced; it is
        // a documented condition of `Model::load`.
        let map = unsafe { Mmap::map(file)? };
        Ok(Self(Arc::new(map)))
    }

    /// `len` bytes that `fill` writes; `failed` says what it means that the system has no memory for them.
    pub(crate) fn filled<E>(
        len: usize,
        failed: impl Fn(io::Error) -> E,
        fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<Self, E> {
        let mut memory = MmapMut::map_anon(len).map_err(&failed)?;
        // Where the system refuses, the bytes are the same.
        #[cfg(target_os = "linux")]
        let _ = memory.advise(memmap2::Advice::HugePage);
        fill(&mut memory)?;
        Ok(Self(Arc::new(memory.make_read_only().map_err(failed)?)))
    }

    /// The bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// `len` values of type `T` from byte `offset` on; none if they do not lie here or are not aligned.
    pub(crate) fn values<T: Plain>(&self, offset: usize, len: usize) -> Option<MappedSlice<T>> {
        let bytes = self.0.get(offset..offset.checked_add(len.checked_mul(size_of::<T>())?)?)?;
        let start = bytes.as_ptr().cast::<T>();
        start.is_aligned().then(|| MappedSlice { map: self.clone(), offset, len, values: PhantomData })
    }
}

/// Values that lie in mapped memory.
#[derive(Debug)]
pub(crate) struct MappedSlice<T> {
    map: Mapped,
    offset: usize,
    len: usize,
    values: PhantomData<T>,
}

impl<T: Plain> MappedSlice<T> {
    /// The values.
    pub(crate) fn get(&self) -> &[T] {
        let start = self.map.bytes()[self.offset..].as_ptr().cast::<T>();
        // SAFETY: `Mapped::values`, which alone makes a `MappedSlice`, has checked that `len` values from `offset` on
        // lie in the map and are aligned; the map neither moves nor shrinks; `Plain` says that any bytes are a `T`.
        unsafe { std::slice::from_raw_parts(start, self.len) }
    }
}

/// Types that any bytes of their size are a valid value of.
///
/// # Safety
/// The type has no padding, no invalid bit patterns and no interior mutability.
pub(crate) unsafe trait Plain: Send + Sync + 'static {}

macro_rules! plain {
    ($($type:ty: $bytes:literal),* $(,)?) => {$(
        const _: () = assert!(size_of::<$type>() == $bytes);
        // SAFETY: a `repr(C)` struct of integers and half-precision floats (or a float itself), whose size, asserted
        // above, is the sum of its fields, so that there is no padding.
        unsafe impl Plain for $type {}
    )*};
}

plain! {
    f32: 4, f16: 2, bf16: 2,
    BlockQ4_0: 18, BlockQ4_1: 20, BlockQ5_0: 22, BlockQ5_1: 24, BlockQ8_0: 34, BlockQ8_1: 36,
    BlockQ2K: 84, BlockQ3K: 110, BlockQ4K: 144, BlockQ5K: 176, BlockQ6K: 210, BlockQ8K: 292,
}
