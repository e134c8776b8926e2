#!/usr/bin/env bash
# Downloads the model once, builds the program, and streams an answer. Then compares the same answer with and without drafts.
#
#   scripts/demo.sh [PROMPT]
set -euo pipefail
cd "$(dirname "$0")/.."

./scripts/setup.sh
./scripts/get-model.sh >/dev/null
cargo build --release --locked --package upcycle-cli
upcycle="${CARGO_TARGET_DIR:-target}/release/upcycle"
prompt=${1:-"Write a Python function that returns the n-th Fibonacci number, then explain it line by line."}

echo
echo "> $prompt"
"$upcycle" run --config configs/cpu.toml --prompt "$prompt" --set decode.max_tokens=160
echo
"$upcycle" run --config configs/cpu.toml --prompt "$prompt" --set decode.max_tokens=160 --compare
