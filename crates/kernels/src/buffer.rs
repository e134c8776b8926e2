//! Memory for weights, on large pages where the system has them.
//!
//! A pass reads all weights once, front to back. With pages of 4 KiB, each page misses the TLB and ends the prefetcher's stream. With
//! pages of 2 MiB, two cores of a Zen 4 read 32 GB/s instead of 26. A matrix is often smaller than such a page, so the matrices of a
//! model share chunks of memory.

use std::io;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use memmap2::MmapMut;

/// Bytes of a chunk, unless one matrix needs more: sixteen large pages.
const CHUNK: usize = 32 << 20;

/// The alignment of a buffer: a cache line.
const LINE: usize = 64;

/// Memory that buffers share. It is freed with the last of them.
struct Chunk {
    start: *mut u8,
    _map: MmapMut,
}

// SAFETY: a chunk owns its memory, and the buffers on it have disjoint parts.
unsafe impl Send for Chunk {}
// SAFETY: as above.
unsafe impl Sync for Chunk {}

/// The chunk that new buffers come from, and how much of it is used.
struct Current {
    chunk: Weak<Chunk>,
    used: usize,
    len: usize,
}

static CURRENT: Mutex<Current> = Mutex::new(Current { chunk: Weak::new(), used: 0, len: 0 });

/// Zeroed bytes that start on a cache line.
pub(crate) struct Buffer {
    chunk: Arc<Chunk>,
    start: usize,
    len: usize,
}

impl Buffer {
    /// `len` zeroed bytes.
    ///
    /// # Errors
    /// If there is no memory for them.
    pub(crate) fn zeroed(len: usize) -> io::Result<Self> {
        let mut current = CURRENT.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(chunk) = current.chunk.upgrade()
            && len <= current.len - current.used
        {
            let start = current.used;
            current.used = current.len.min(start + len.next_multiple_of(LINE));
            return Ok(Self { chunk, start, len });
        }
        let mut map = MmapMut::map_anon(len.next_multiple_of(LINE).max(CHUNK))?;
        // A hint: without large pages, small ones work too.
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage);
        let whole = map.len();
        let chunk = Arc::new(Chunk { start: map.as_mut_ptr(), _map: map });
        *current = Current { chunk: Arc::downgrade(&chunk), used: len.next_multiple_of(LINE), len: whole };
        Ok(Self { chunk, start: 0, len })
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: the range lies within the chunk, which lives as long as `self`; no other buffer has a byte of it, and
        // `bytes_mut` borrows `self` mutably. Mapped memory starts as zeroes.
        unsafe { std::slice::from_raw_parts(self.chunk.start.add(self.start), self.len) }
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`; a buffer cannot be cloned, so nothing else has its range.
        unsafe { std::slice::from_raw_parts_mut(self.chunk.start.add(self.start), self.len) }
    }
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Buffer").field("len", &self.len).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_zeroed_aligned_and_disjoint() {
        let mut buffers: Vec<Buffer> =
            [0, 1, 63, 64, 1000, CHUNK, 3].map(|len| Buffer::zeroed(len).unwrap()).into();
        for (index, buffer) in buffers.iter_mut().enumerate() {
            assert!(buffer.bytes().iter().all(|&byte| byte == 0));
            assert_eq!(buffer.bytes().as_ptr() as usize % LINE, 0);
            buffer.bytes_mut().fill(index as u8 + 1);
        }
        for (index, buffer) in buffers.iter().enumerate() {
            assert!(buffer.bytes().iter().all(|&byte| byte == index as u8 + 1), "{index}");
        }
    }

    #[test]
    fn reused_memory_is_zeroed() {
        for _ in 0..3 {
            let mut buffer = Buffer::zeroed(100).unwrap();
            assert!(buffer.bytes().iter().all(|&byte| byte == 0));
            buffer.bytes_mut().fill(7);
        }
    }
}
