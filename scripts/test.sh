#!/usr/bin/env bash
# Runs every check: formatting, lints, tests (with a real model and a real browser), documentation, and the README's commands.
# Installs what it needs and says so. On two cores a first run takes about 55 minutes, 8 of them to build llama.cpp.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '\n== %s\n' "$*"; }

./scripts/setup.sh tests llama-cpp
eval "$(./scripts/llama-cpp-flags.sh)"
if ! cargo deny --version >/dev/null 2>&1; then
  say "installing cargo-deny to check the licences of dependencies (about 3 minutes)"
  cargo install --quiet --locked cargo-deny
fi
say "model"
UPCYCLE_TEST_MODEL=$(realpath "$(./scripts/get-model.sh)")
export UPCYCLE_TEST_MODEL

say "ONNX Runtime"
./scripts/setup-ort.sh --python

say "formatting and lints"
./scripts/lint.sh
./scripts/lint-deploy.sh
say "tests"
# With every backend that builds without a GPU.
cargo test --workspace --locked --features upcycle-cli/bench,upcycle-cli/hub,upcycle-cli/ort,upcycle-cli/candle,upcycle-cli/llama-cpp,upcycle-tests/llama-cpp
say "clients of the server"
./scripts/test-clients.sh target/debug/upcycle
say "tests without the other backends: the messages about them"
cargo test --workspace --locked --test cli -- commands:: hub:: settings::
if [ -d "$(rustc --print sysroot)/lib/rustlib/aarch64-unknown-linux-gnu" ]; then
  say "NEON kernels"
  ./scripts/check-arm.sh
fi
say "micro-benchmarks, one second each"
cargo bench --locked --package upcycle-bench --no-default-features --bench micro -- --min-time 0.1 --max-time 0.8
say "documentation"
./scripts/docs.sh
say "licences and sources of dependencies"
cargo deny --all-features --log-level error check licenses bans sources
say "packages (dry run of publishing)"
cargo publish --workspace --dry-run --no-verify --allow-dirty --quiet --exclude upcycle-tests --exclude upcycle-fuzz
say "the README's demo"
./scripts/demo.sh
say "all checks passed"
