//! Rows that several threads write at disjoint places.

use std::marker::PhantomData;

/// Rows that several threads write at disjoint places.
pub(crate) struct Columns<'a, T = f32> {
    start: *mut T,
    len: usize,
    width: usize,
    owner: PhantomData<&'a mut [T]>,
}

// SAFETY: writes go through `slice`, whose callers promise disjoint places.
unsafe impl<T: Send> Send for Columns<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Columns<'_, T> {}

impl<'a, T> Columns<'a, T> {
    /// `out` as rows of `width`.
    pub(crate) fn new(out: &'a mut [T], width: usize) -> Self {
        Self { start: out.as_mut_ptr(), len: out.len(), width, owner: PhantomData }
    }

    /// `count` elements of row `row` from column `column` on.
    ///
    /// # Safety
    /// No two live slices overlap.
    #[expect(clippy::mut_from_ref, reason = "disjoint slices, as the caller promises")]
    pub(crate) unsafe fn slice(&self, row: usize, column: usize, count: usize) -> &mut [T] {
        let at = row * self.width + column;
        assert!(column + count <= self.width && at + count <= self.len, "within the rows");
        // SAFETY: in bounds, and disjoint from every other live slice.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(at), count) }
    }
}
