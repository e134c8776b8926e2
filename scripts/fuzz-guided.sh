#!/usr/bin/env bash
# libFuzzer over the same targets as scripts/fuzz.sh, guided by which code an input reaches, with the address sanitizer:
# SECONDS for each target, or for those named. Needs cargo-fuzz and a C++ compiler; builds for some minutes. What it finds
# is left in fuzz/artifacts/TARGET/, what reaches new code in fuzz/corpus/TARGET/.
#
#   scripts/fuzz-guided.sh SECONDS [TARGET...]
set -euo pipefail
cd "$(dirname "$0")/.."
if [ $# -eq 0 ]; then
  sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" >&2
  exit 2
fi
if ! cargo fuzz --version >/dev/null 2>&1; then
  echo "cargo-fuzz is missing: cargo install --locked cargo-fuzz" >&2
  exit 1
fi
seconds=$1
shift
cargo run --quiet --locked --package upcycle-fuzz -- --seeds fuzz/seeds
# The sanitizer and the counters are flags that a stable compiler has and keeps from general use.
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
