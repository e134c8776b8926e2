#!/usr/bin/env bash
# Damaged inputs of every kind that Upcycle reads: N of each, or of the targets named, from input FROM on (0 unless
# given). Each must end in a value or in a typed error within 5 seconds and 200 MB; one that does not is kept in
# tests/fuzz/corpus/ and tried first from then on. One that ends the process stands in the system's temporary folder, as
# upcycle-fuzz-TARGET.
#
#   scripts/fuzz.sh N [FROM] [TARGET...]
set -euo pipefail
cd "$(dirname "$0")/.."
exec cargo run --quiet --locked --package upcycle-fuzz -- "$@"
