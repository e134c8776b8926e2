#!/usr/bin/env bash
# Tries N damaged inputs of every kind of file that Upcycle reads, or of the named targets, starting at input FROM (default 0).
# Each input must give a value or a typed error within 5 seconds and 200 MB. One that does not is kept in tests/fuzz/corpus/ and
# tried first from then on. One that ends the process is left in the system's temporary folder as upcycle-fuzz-TARGET.
#
#   scripts/fuzz.sh N [FROM] [TARGET...]
set -euo pipefail
cd "$(dirname "$0")/.."
exec cargo run --quiet --locked --package upcycle-fuzz -- "$@"
