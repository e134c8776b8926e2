#!/usr/bin/env bash
# Prints the variables with which llama.cpp is built for this processor, as shell commands; run it before a build with the
# feature llama-cpp:
#
#   eval "$(scripts/llama-cpp-flags.sh)"
#
# Without them the library uses AVX2 on x86-64, and no more. Its build does not notice when they change, so a library in the
# target folder that was made with others is forgotten here. On other processors nothing is printed: there, build with
# RUSTFLAGS="-C target-cpu=native" in a target folder of its own.
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
      # Not AMX: where a virtual machine shows it and does not let it be used, the library would end the process.
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
