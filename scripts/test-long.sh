#!/usr/bin/env bash
# Runs what scripts/test.sh leaves out because it is slow and rarely fails: ten thousand steps with the memory watched, many more
# requests to the server, and many more damaged inputs for everything that reads files. About 30 minutes on two cores.
#
#   scripts/test-long.sh [INPUTS]     damaged inputs of each kind; 100000 by default, and a tenth for ONNX Runtime and llama.cpp
set -euo pipefail
cd "$(dirname "$0")/.."

UPCYCLE_TEST_MODEL=$(realpath "$(./scripts/get-model.sh)")
export UPCYCLE_TEST_MODEL
cargo test --locked --package upcycle-tests --test soak -- --ignored
UPCYCLE_BITWISE_PROMPTS=20 cargo test --locked --package upcycle-tests --test bitwise
# A failure names its seed.
UPCYCLE_COMPANY_REQUESTS=200 UPCYCLE_COMPANY_SEED=$RANDOM cargo test --locked --package upcycle-cli --test cli -- company::
# 10000 requests after 10000 others. One arena: with several, glibc's resident memory depends on which threads allocate.
MALLOC_ARENA_MAX=1 UPCYCLE_FAULTY_REQUESTS=20000 UPCYCLE_FAULTY_SEED=$RANDOM cargo test --locked --package upcycle-serve --test faults
UPCYCLE_DAMAGED_FILES=$((${1:-100000} / 10))
export UPCYCLE_DAMAGED_FILES
cargo test --locked --package upcycle-ort --test damaged
cargo test --locked --package upcycle-llama-cpp --test damaged
./scripts/fuzz.sh "${1:-100000}"
