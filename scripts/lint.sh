#!/usr/bin/env bash
# Formatting and lints, as the test command checks them. llama.cpp is built for it: see scripts/setup.sh.
set -euo pipefail
cd "$(dirname "$0")/.."
eval "$(./scripts/llama-cpp-flags.sh)"
cargo fmt --all --check
cargo clippy --workspace --all-targets --locked -- -D warnings
cargo clippy -p upcycle -p upcycle-bench --no-default-features --locked -- -D warnings
# The same features of all other crates, so that none of them is built again.
cargo clippy --workspace --all-targets --features upcycle-cli/hub,upcycle-cli/ort,upcycle-cli/llama-cpp,upcycle-tests/llama-cpp --locked -- -D warnings
