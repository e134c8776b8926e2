#!/usr/bin/env bash
# Runs libFuzzer with the address sanitizer over the targets of scripts/fuzz.sh, or over the named ones, for SECONDS each. It
# needs cargo-fuzz and a C++ compiler, and builds for some minutes. Failures go to fuzz/artifacts/TARGET/, inputs that reach new
# code to fuzz/corpus/TARGET/.
#
#   scripts/fuzz-guided.sh SECONDS [TARGET...]
set -euo pipefail
cd "$(dirname "$0")/.."
if [ $# -eq 0 ]; then
  sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" >&2
  exit 2
fi
if ! cargo fuzz --version >/dev/null 2>&1; then
  echo "cargo-fuzz is missing; run: cargo install --locked cargo-fuzz" >&2
  exit 1
fi
seconds=$1
shift
cargo run --quiet --locked --package upcycle-fuzz -- --seeds fuzz/seeds
# Lets a stable compiler accept the unstable flags for the sanitizer and the coverage counters.
export RUSTC_BOOTSTRAP=1
cargo fuzz build inputs
[ $# -gt 0 ] || set -- $(ls fuzz/seeds)
for target in "$@"; do
  echo "== $target"
  mkdir -p "fuzz/corpus/$target" "fuzz/artifacts/$target"
  UPCYCLE_FUZZ_TARGET=$target cargo fuzz run inputs "fuzz/corpus/$target" "fuzz/seeds/$target" "tests/fuzz/corpus/$target" -- \
    -max_total_time="$seconds" -timeout=5 -rss_limit_mb=1024 -max_len=65536 -artifact_prefix="fuzz/artifacts/$target/" \
    -print_final_stats=1
done
