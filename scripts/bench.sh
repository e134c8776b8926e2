#!/usr/bin/env bash
# Measures drafters and peers beside plain decoding on this machine, in one run, and writes a report:
#
#   scripts/bench.sh [PROMPTS.jsonl] [FLAGS OF upcycle bench]...
#
# Without a file it uses the project's own prompts. It measures peers that scripts/get-peers.sh has built; the report says
# which are absent. Run it on a quiet machine. With everything it takes about an hour on two cores.
set -euo pipefail
cd "$(dirname "$0")/.."

prompts=()
if [ $# -gt 0 ] && [ -f "$1" ]; then
  prompts=(--prompts "$1")
  shift
fi
./scripts/setup.sh
model=$(./scripts/get-model.sh)
cargo build --release --locked --package upcycle-cli --features bench
upcycle="${CARGO_TARGET_DIR:-target}/release/upcycle"

ours=plain,configured,recycling:auto,prompt-lookup:auto,recycling:1,recycling:2,recycling:4,recycling:16,paper,mixed:2,mixed:4,prompt-lookup:2
peers=llama.cpp,llama.cpp:ngram-simple,llama.cpp:ngram-simple:3:4,llama.cpp:ngram-map-k:3:4,llama.cpp:ngram-map-k4v:3:4,llama.cpp:ngram-mod
server=()
if [ -x .peers/native/bin/llama-server ]; then
  server=(--llama-server .peers/native/bin/llama-server --peer-model "$model")
  q4_0=${model%Q4_1.gguf}Q4_0.gguf
  [ ! -f "$q4_0" ] || server+=(--peer-model "$q4_0")
fi
exec "$upcycle" bench --config configs/cpu.toml "${prompts[@]}" --arms "$ours,$peers" "${server[@]}" "$@"
