//! Other programs that answer the same prompts in the same run.
