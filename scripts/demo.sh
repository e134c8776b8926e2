#!/usr/bin/env bash
# From nothing to an answer: fetches the model once, builds the release binary, answers a prompt as a stream, then
# decodes the same prompt with and without recycling and prints both.
set -euo pipefail
cd "$(dirname "$0")/.."

./scripts/setup.sh
./scripts/get-model.sh >/dev/null
cargo build --release --locked --package upcycle-cli
upcycle="${CARGO_TARGET_DIR:-target}/release/upcycle"
prompt=${1:-"Write a Python function that returns the n-th Fibonacci number, then explain it line by line."}

echo
echo "> $prompt"
"$upcycle" run --config configs/candle-cpu.toml --prompt "$prompt" --set decode.max_tokens=160
echo
"$upcycle" run --config configs/candle-cpu.toml --prompt "$prompt" --set decode.max_tokens=160 --compare
