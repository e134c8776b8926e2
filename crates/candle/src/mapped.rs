//! The model file in memory, and typed views of its bytes: the only unsafe code of the crate.
#![expect(unsafe_code, reason = "mapping a file, and reading blocks in place, cannot be said in safe Rust")]

use std::fs::File;
use std::io;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::SystemTime;

use candle_core::quantized::k_quants::{
    BlockQ2K, BlockQ3K, BlockQ4_0, BlockQ4_1, BlockQ4K, BlockQ5_0, BlockQ5_1, BlockQ5K, BlockQ6K, BlockQ8_0,
    BlockQ8_1, BlockQ8K,
};
use half::{bf16, f16};
use memmap2::Mmap;

/// At least the size of a page of memory, and a multiple of it.
const PAGE: usize = 64 * 1024;

/// A file mapped for reading.
///
/// The file must stay as it is while it is mapped: another process that shortens it makes reads fault, as with
/// every program that maps its model. That it is replaced or removed does no harm: the map is of the old file.
#[derive(Clone, Debug)]
pub(crate) struct Mapped(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    map: Mmap,
    file: File,
    /// Length and time of the last change when the file was mapped.
    state: (u64, Option<SystemTime>),
}

fn state(file: &File) -> io::Result<(u64, Option<SystemTime>)> {
    let metadata = file.metadata()?;
    // Where a system does not tell times, the length has to do.
    Ok((metadata.len(), metadata.modified().ok()))
}

impl Mapped {
    /// Maps all of `file`.
    pub(crate) fn new(file: File) -> io::Result<Self> {
        let state = state(&file)?;
        // SAFETY: the map is private and read-only. That nobody changes the file meanwhile cannot be enforced; it is
        // a documented condition of `Model::load`.
        let map = unsafe { Mmap::map(&file)? };
        Ok(Self(Arc::new(Inner { map, file, state })))
    }

    /// Whether the file is as it was when it was mapped, as far as its length and the time of its last change tell.
    pub(crate) fn is_unchanged(&self) -> io::Result<bool> {
        Ok(state(&self.0.file)? == self.0.state)
    }

    /// The bytes of the file.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0.map
    }

    /// Tells the system that these bytes are not needed for now: their pages leave this process's memory, and are read
    /// from the file again if they are looked at.
    pub(crate) fn release(&self, offset: usize, len: usize) {
        // Whole pages only: a page at the edge may hold a neighbour's bytes that are still to be read.
        let (start, end) = (offset.next_multiple_of(PAGE), (offset + len) / PAGE * PAGE);
        #[cfg(unix)]
        if start < end && end <= self.0.map.len() {
            // SAFETY: the map is of a file, private and never written to, so that dropped pages come back the same.
            let released = unsafe {
                self.0.map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, start, end - start)
            };
            if let Err(error) = released {
                // Nothing but memory is lost.
                tracing::debug!(%error, "pages of the model were not released");
            }
        }
    }

    /// `len` values of type `T` from byte `offset` on; none if they do not lie in the file or are not aligned.
    pub(crate) fn values<T: Plain>(&self, offset: usize, len: usize) -> Option<MappedSlice<T>> {
        let bytes = self.0.map.get(offset..offset.checked_add(len.checked_mul(size_of::<T>())?)?)?;
        let start = bytes.as_ptr().cast::<T>();
        start.is_aligned().then(|| MappedSlice { map: self.clone(), offset, len, values: PhantomData })
    }
}

/// Values that lie in a mapped file.
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
