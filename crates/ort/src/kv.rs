//! The committed keys and values of a sequence in host memory.

use std::collections::TryReserveError;

/// The capacity of a cache at first, in rows.
const INITIAL_CAPACITY: usize = 256;

/// A buffer for the keys and one for the values of each layer, `[rows, kv_heads * head_dim]`. The runtime reads them in place.
#[derive(Debug)]
pub(crate) struct KvCache {
    buffers: Vec<Vec<f32>>,
    /// The length of a row.
    row: usize,
    capacity: usize,
}

impl KvCache {
    /// A cache of `buffers` empty buffers, whose rows have `row` elements.
    pub(crate) fn new(buffers: usize, row: usize) -> Self {
        Self { buffers: vec![Vec::new(); buffers], row, capacity: 0 }
    }

    /// Raises the capacity to `rows` rows. It at least doubles, so that few calls move anything.
    pub(crate) fn reserve(&mut self, rows: usize) -> Result<(), TryReserveError> {
        if rows <= self.capacity {
            return Ok(());
        }
        let capacity = rows.max(2 * self.capacity).max(INITIAL_CAPACITY);
        for buffer in &mut self.buffers {
            buffer.try_reserve_exact(capacity * self.row - buffer.len())?;
        }
        self.capacity = capacity;
        Ok(())
    }

    /// The first `rows` rows of a buffer.
    pub(crate) fn prefix(&self, buffer: usize, rows: usize) -> &[f32] {
        &self.buffers[buffer][..rows * self.row]
    }

    /// A cache with the first `rows` rows of this one.
    pub(crate) fn copy_prefix(&self, rows: usize) -> Result<Self, TryReserveError> {
        let mut copy = Self::new(self.buffers.len(), self.row);
        copy.reserve(rows)?;
        for (buffer, copied) in copy.buffers.iter_mut().enumerate() {
            copied.extend_from_slice(self.prefix(buffer, rows));
        }
        Ok(copy)
    }

    /// Drops the rows from `rows` on.
    pub(crate) fn truncate(&mut self, rows: usize) {
        for buffer in &mut self.buffers {
            buffer.truncate(rows * self.row);
        }
    }

    /// Appends row `from` of `rows`, `[n, kv_heads * head_dim]`, to a buffer. Returns the number of bytes copied.
    pub(crate) fn push(&mut self, buffer: usize, rows: &[f32], from: usize) -> usize {
        let row = &rows[from * self.row..][..self.row];
        self.buffers[buffer].extend_from_slice(row);
        size_of_val(row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_stay_in_order_through_growth_and_rollback() -> Result<(), TryReserveError> {
        let mut cache = KvCache::new(2, 3);
        let source: Vec<f32> = (0..6000).map(|x| x as f32).collect();
        let mut expected = Vec::new();
        for step in 0..900 {
            cache.reserve(expected.len() / 3 + 1)?;
            let from = step * 7 % 2000;
            for buffer in 0..2 {
                assert_eq!(cache.push(buffer, &source, from), 12);
            }
            expected.extend_from_slice(&source[from * 3..][..3]);
            if step % 100 == 99 {
                expected.truncate(expected.len() - 30);
                cache.truncate(expected.len() / 3);
            }
        }
        for buffer in 0..2 {
            assert_eq!(cache.prefix(buffer, expected.len() / 3), expected);
        }
        Ok(())
    }
}
