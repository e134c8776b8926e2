#!/usr/bin/env bash
# The documentation of all crates, under target/doc; broken links are errors.
set -euo pipefail
cd "$(dirname "$0")/.."
RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked
