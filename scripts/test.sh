#!/usr/bin/env bash
# Everything that a change is checked by: formatting, lints, tests (the real model and a real browser among them),
# documentation, and the README's own commands. Installs what it needs and says so. About 40 minutes on 2 cores from
# nothing, 8 of them for building llama.cpp.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '\n== %s\n' "$*"; }

./scripts/setup.sh tests llama-cpp
eval "$(./scripts/llama-cpp-flags.sh)"
if ! cargo deny --version >/dev/null 2>&1; then
  say "installing cargo-deny, which checks the licences of dependencies (about 3 minutes)"
  cargo install --quiet --locked cargo-deny
fi
say "model"
UPCYCLE_TEST_MODEL=$(realpath "$(./scripts/get-model.sh)")
export UPCYCLE_TEST_MODEL

say "ONNX Runtime"
./scripts/setup-ort.sh --python

say "formatting and lints"
./scripts/lint.sh
say "tests"
# With every backend that is built here.
cargo test --workspace --locked --features upcycle-cli/hub,upcycle-cli/ort,upcycle-cli/llama-cpp,upcycle-tests/llama-cpp
# Without: what a bare build says of the backends that it lacks.
cargo test --workspace --locked --test cli -- commands:: hub:: settings::
if [ -d "$(rustc --print sysroot)/lib/rustlib/aarch64-unknown-linux-gnu" ]; then
  say "the kernels' NEON path"
  ./scripts/check-arm.sh
fi
say "micro-benchmarks, a second each"
cargo bench --locked --package upcycle-bench --no-default-features --bench micro -- --min-time 0.1 --max-time 0.8
say "documentation"
./scripts/docs.sh
say "licences and sources of dependencies"
cargo deny --all-features --log-level error check licenses bans sources
say "packages, as they would be published"
cargo publish --workspace --dry-run --no-verify --allow-dirty --quiet --exclude upcycle-tests --exclude upcycle-fuzz
say "the README's demo"
./scripts/demo.sh
say "all checks passed"
