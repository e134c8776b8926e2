//! llama.cpp's sequence ids. Their number is fixed.

use crate::error::PassError;

/// The ids that nobody holds.
#[derive(Debug)]
pub(crate) struct SeqIds {
    free: Vec<i32>,
    count: usize,
}

impl SeqIds {
    /// The ids `0..count`, all free.
    pub(crate) fn new(count: u16) -> Self {
        Self { free: (0..i32::from(count)).rev().collect(), count: usize::from(count) }
    }

    /// Takes a free id.
    ///
    /// # Errors
    /// [`PassError::IdsUsedUp`].
    pub(crate) fn take(&mut self) -> Result<i32, PassError> {
        self.free.pop().ok_or_else(|| self.used_up())
    }

    /// Takes an id back. No cell may carry it any more.
    pub(crate) fn release(&mut self, id: i32) {
        debug_assert!(!self.free.contains(&id) && self.free.len() < self.count, "id {id} was free");
        self.free.push(id);
    }

    /// The number of free ids.
    pub(crate) fn free(&self) -> usize {
        self.free.len()
    }

    /// The error of a pass that needs more ids than it can get.
    pub(crate) fn used_up(&self) -> PassError {
        PassError::IdsUsedUp { ids: self.count }
    }
}
