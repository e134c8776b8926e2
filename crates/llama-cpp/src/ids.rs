//! llama.cpp's sequence ids, of which there is a fixed number.

/// Ids that nobody holds.
#[derive(Debug)]
pub(crate) struct Ids {
    free: Vec<i32>,
    all: usize,
}

impl Ids {
    /// The ids `0..count`, all free.
    pub(crate) fn new(count: u16) -> Self {
        Self { free: (0..i32::from(count)).rev().collect(), all: usize::from(count) }
    }

    pub(crate) fn take(&mut self) -> Option<i32> {
        self.free.pop()
    }

    /// Takes an id back, with no cell left that carries it.
    pub(crate) fn give_back(&mut self, id: i32) {
        debug_assert!(!self.free.contains(&id) && self.free.len() < self.all, "id {id} was free");
        self.free.push(id);
    }

    pub(crate) fn free(&self) -> usize {
        self.free.len()
    }

    /// All ids, free or not.
    pub(crate) fn all(&self) -> usize {
        self.all
    }
}
