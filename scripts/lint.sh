#!/usr/bin/env bash
# Checks formatting and lints, as scripts/test.sh does. This builds llama.cpp; scripts/setup.sh installs what that needs.
set -euo pipefail
cd "$(dirname "$0")/.."
eval "$(./scripts/llama-cpp-flags.sh)"
cargo fmt --all --check
cargo clippy --workspace --all-targets --locked -- -D warnings
cargo clippy -p upcycle -p upcycle-bench --no-default-features --locked -- -D warnings
# With the features that the tests use, so that no dependency is built twice.
cargo clippy --workspace --all-targets --features upcycle-cli/bench,upcycle-cli/hub,upcycle-cli/ort,upcycle-cli/candle,upcycle-cli/llama-cpp,upcycle-tests/llama-cpp --locked -- -D warnings
