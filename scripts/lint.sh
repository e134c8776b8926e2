#!/usr/bin/env bash
# Formatting and lints, as the test command checks them.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo fmt --all --check
cargo clippy --workspace --all-targets --locked -- -D warnings
cargo clippy -p upcycle-backends -p upcycle-bench --no-default-features --locked -- -D warnings
# The same features of all other crates, so that none of them is built again.
cargo clippy --workspace --all-targets --features upcycle/ort --locked -- -D warnings
