#!/usr/bin/env bash
# Prints shell commands that make the next build with the feature llama-cpp use all instructions of this processor:
#
#   eval "$(scripts/llama-cpp-flags.sh)"
#
# Without them llama.cpp uses AVX2 at most on x86-64. Its build does not notice a change of these variables, so this script cleans
# a library that was built with others. On other processors it prints nothing; build there with
# RUSTFLAGS="-C target-cpu=native" in a separate target folder.
set -euo pipefail
cd "$(dirname "$0")/.."

flags=()
case $(uname -m) in
  x86_64 | amd64)
    has() { grep -m1 '^flags' /proc/cpuinfo 2>/dev/null | grep -qw "$1"; }
    if has avx512f && has avx512cd && has avx512vl && has avx512dq && has avx512bw; then
      flags+=(GGML_AVX512=ON)
      ! has avx512vbmi || flags+=(GGML_AVX512_VBMI=ON)
      ! has avx512_vnni || flags+=(GGML_AVX512_VNNI=ON)
      ! has avx512_bf16 || flags+=(GGML_AVX512_BF16=ON)
      # Not AMX: some virtual machines report it but forbid its use, which ends the process.
    elif has avx_vnni; then
      flags+=(GGML_AVX_VNNI=ON)
    fi
    ;;
esac

target=${CARGO_TARGET_DIR:-target}
if [ -e "$target" ]; then
  made=$target/llama-cpp-flags
  if [ "$(cat "$made" 2>/dev/null)" != "${flags[*]}" ]; then
    cargo clean --quiet --package llama-cpp-sys-2 >&2
    echo "${flags[*]}" >"$made"
  fi
fi
[ ${#flags[@]} -eq 0 ] || echo "export ${flags[*]}"
