//! What a run found, for people: one self-contained page, and a table of numbers.
