//! The registry of this workspace's backends, drafters and sources.

use crate::registry::Registry;
use crate::{backends, drafters};

impl Registry {
    /// The backends that are compiled in, the names of the others, and all drafters and sources of this workspace.
    #[must_use]
    pub fn builtin() -> Self {
        let mut registry = Self::empty();
        backends::register(&mut registry);
        drafters::register(&mut registry);
        registry
    }
}

impl Default for Registry {
    fn default() -> Self {
        Self::builtin()
    }
}
