//! One generation, step by step, as a page that shows each draft tree.
