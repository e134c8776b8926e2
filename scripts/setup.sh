#!/usr/bin/env bash
# Installs what building and testing need, and says so: the pinned Rust toolchain with rustfmt and clippy, a C linker, and Python 3
# with pip. With `tests` also Chromium with its driver (tests of HTML pages) and tmux (tests of `upcycle chat`). With `llama-cpp`
# also cmake, a C++ compiler and libclang, which build llama.cpp.
#
#   scripts/setup.sh [tests] [llama-cpp]
set -euo pipefail
cd "$(dirname "$0")/.."
say() { echo "setup: $*"; }

if ! command -v cargo >/dev/null && [ -x "$HOME/.cargo/bin/cargo" ]; then
  PATH="$HOME/.cargo/bin:$PATH"
fi
command -v cargo >/dev/null || { say "Rust is missing: install rustup, then run this again" >&2; exit 1; }

# rustup reads rust-toolchain.toml. Without rustup, a system cargo of the same version will do.
if command -v rustup >/dev/null; then
  wanted=$(sed -n 's/^channel = "\(.*\)"/\1/p' rust-toolchain.toml)
  for component in rustfmt clippy; do
    if ! rustup component list --toolchain "$wanted" --installed 2>/dev/null | grep -q "^$component"; then
      say "installing $component for Rust $wanted"
      rustup toolchain install "$wanted" --profile minimal --component "$component"
    fi
  done
fi

missing=()
command -v cc >/dev/null || missing+=(gcc libc6-dev)
command -v python3 >/dev/null || missing+=(python3 python3-pip)
python3 -m pip --version >/dev/null 2>&1 || missing+=(python3-pip)
for argument; do
  case $argument in
    tests)
      command -v chromedriver >/dev/null || missing+=(chromium chromium-driver)
      command -v tmux >/dev/null || missing+=(tmux)
      ;;
    llama-cpp)
      command -v cmake >/dev/null || missing+=(cmake)
      command -v make >/dev/null || missing+=(make)
      command -v c++ >/dev/null || missing+=(g++)
      # bindgen searches LIBCLANG_PATH and the usual folders. libclang-cpp is a different library.
      if [ -z "${LIBCLANG_PATH:-}" ] &&
        ! ls /usr/lib/llvm-*/lib/libclang{,-[0-9]*}.so* /usr/lib{,64,/*}/libclang{,-[0-9]*}.so* 2>/dev/null | grep -q .; then
        missing+=(libclang-dev)
      fi
      ;;
    *) say "unknown argument \`$argument\`; expected tests or llama-cpp" >&2; exit 2 ;;
  esac
done
if [ ${#missing[@]} -gt 0 ]; then
  if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
    say "installing ${missing[*]} with apt-get"
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends "${missing[@]}"
  else
    say "please install: ${missing[*]}" >&2
    exit 1
  fi
fi
