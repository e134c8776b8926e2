//! What is asked: the own set of prompts, and files of them.
