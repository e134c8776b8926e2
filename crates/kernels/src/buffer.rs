//! Memory aligned to cache lines.

/// 64 bytes on a cache line.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// Zeroed bytes that start on a cache line.
#[derive(Clone, Debug, Default)]
pub(crate) struct Buffer(Vec<Line>);

impl Buffer {
    /// At least `len` zeroed bytes: rounded up to whole cache lines.
    pub(crate) fn zeroed(len: usize) -> Self {
        Self(vec![Line([0; 64]); len.div_ceil(64)])
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: a `Line` is 64 initialised bytes without padding, and the lines of a vector are contiguous.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), self.0.len() * 64) }
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`; every byte pattern is a sound `Line`.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), self.0.len() * 64) }
    }
}
