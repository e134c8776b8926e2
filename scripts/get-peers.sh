#!/usr/bin/env bash
# Builds the benchmark's peer once: llama.cpp's llama-server and llama-quantize for the CPU, from the C++ source in the PyPI source
# package llama-cpp-python (MIT; 77 MB, about 7 minutes on two cores). Then converts the demo model to Q4_0, which llama.cpp
# repacks for its CPU kernels, unlike Q4_1. Prints the path of llama-server; everything else goes to stderr.
#
#   scripts/get-peers.sh [native|avx2]     (native: all instructions of this processor; avx2: AVX2, FMA and F16C only)
set -euo pipefail
cd "$(dirname "$0")/.."

package=llama-cpp-python==0.3.36
sha256=832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e
say() { echo "get-peers: $*" >&2; }

simd=${1:-native}
case $simd in
  native)
    options=(-DGGML_NATIVE=ON)
    case $(uname -m) in
      # Some virtual machines report AMX but forbid its use, which ends the process.
      x86_64 | amd64) options+=("-DCMAKE_CXX_FLAGS=-mno-amx-tile -mno-amx-int8 -mno-amx-bf16") ;;
    esac
    ;;
  avx2)
    case $(uname -m) in
      x86_64 | amd64) ;;
      *) say "avx2 needs x86-64, but this is $(uname -m); use native"; exit 1 ;;
    esac
    options=(-DGGML_NATIVE=OFF -DGGML_AVX2=ON -DGGML_FMA=ON -DGGML_F16C=ON -DGGML_BMI2=ON)
    ;;
  *) say "unknown argument \`$simd\`; expected native or avx2"; exit 2 ;;
esac
options+=(
  -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=OFF
  -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_APP=OFF
  # The build must not use the network: no TLS, no web page that npm builds or a download brings.
  -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_UI=OFF -DLLAMA_USE_PREBUILT_UI=OFF
)

# The instruction sets of this processor: a native build for another processor must be made again.
processor() {
  grep -m1 -E '^(flags|Features)' /proc/cpuinfo 2>/dev/null \
    | grep -oE '\b(ssse3|sse4_[12]|avx[0-9a-z_]*|fma|f16c|bmi[12]|amx[a-z0-9_]*|asimd[a-z]*|sve[0-9a-z]*|i8mm|bf16)\b' \
    | sort -u | tr '\n' ' ' || true
}
recipe="$package $sha256 ${options[*]}"
[ "$simd" = avx2 ] || recipe+=" for $(uname -m) $(processor)"

peers=.peers
target=$peers/$simd
server=$target/bin/llama-server

work=
trap '[ -z "$work" ] || rm -rf "$work"' EXIT

# An existing folder is complete, because it is moved into place last. Its recipe may differ.
built() { [ -x "$server" ] && [ -x "$target/bin/llama-quantize" ] && [ "$(cat "$target/recipe" 2>/dev/null)" = "$recipe" ]; }

install_tools() {
  local missing=()
  command -v cmake >/dev/null || missing+=(cmake)
  command -v make >/dev/null || missing+=(make)
  command -v g++ >/dev/null || missing+=(g++)
  command -v python3 >/dev/null || missing+=(python3 python3-pip)
  python3 -m pip --version >/dev/null 2>&1 || missing+=(python3-pip)
  [ ${#missing[@]} -gt 0 ] || return 0
  if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
    say "installing ${missing[*]} with apt-get"
    apt-get update -qq >&2
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
  else
    say "please install: ${missing[*]}"
    exit 1
  fi
}

build() {
  install_tools
  mkdir -p "$peers"
  work=$(mktemp -d "$peers/.work.XXXXXX")

  # pip checks the hash before it runs code of the package.
  say "downloading $package (77 MB)"
  echo "$package --hash=sha256:$sha256" >"$work/wanted.txt"
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --no-binary llama-cpp-python \
    --require-hashes --dest "$work" --requirement "$work/wanted.txt" >&2
  local archives=("$work"/*.tar.gz)
  local root
  root=$(basename "${archives[0]}" .tar.gz)
  tar -xzf "${archives[0]}" -C "$work" --no-same-owner \
    "$root/vendor/llama.cpp" "$root/.git/modules/vendor/llama.cpp/HEAD"
  local source=$work/$root/vendor/llama.cpp

  # The package names its commit but has no history, so there is no build number (a count of commits). llama.cpp's build would
  # ask git, which would answer for this repository.
  local commit
  commit=$(cat "$work/$root/.git/modules/vendor/llama.cpp/HEAD")
  [[ $commit =~ ^[0-9a-f]{40}$ ]] || { say "expected a commit of llama.cpp in $package, found \`$commit\`"; exit 1; }

  local jobs
  jobs=$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
  say "building llama.cpp ${commit:0:9} for $simd with $jobs jobs; the log is $peers/$simd.log"
  {
    cmake -S "$source" -B "$work/build" -G "Unix Makefiles" "${options[@]}" \
      -DLLAMA_BUILD_COMMIT="${commit:0:9}" -DLLAMA_BUILD_NUMBER=0 \
      && nice -n 5 cmake --build "$work/build" --parallel "$jobs" --target llama-server llama-quantize
  } >"$peers/$simd.log" 2>&1 || { tail -n 20 "$peers/$simd.log" >&2; say "the build failed; see $peers/$simd.log"; exit 1; }

  mkdir -p "$work/done/bin"
  cp "$work/build/bin/llama-server" "$work/build/bin/llama-quantize" "$work/done/bin/"
  cp "$source/LICENSE" "$work/done/"
  "$work/done/bin/llama-server" --version >"$work/done/version" 2>&1 \
    || { cat "$work/done/version" >&2; say "the new llama-server does not run"; exit 1; }
  echo "$commit" >"$work/done/commit"
  echo "$recipe" >"$work/done/recipe"
  rm -rf "$target"
  mv "$work/done" "$target"
}

if ! built; then
  [ ! -e "$target" ] || say "$target is for another version or processor; building it again"
  build
fi
say "llama.cpp $(cut -c1-9 "$target/commit"): $(head -n 1 "$target/version")"

q4_1=$(./scripts/get-model.sh)
q4_0=${q4_1/.Q4_1./.Q4_0.}
if [ ! -f "$q4_0" ]; then
  say "converting $q4_1 to $q4_0"
  part=$q4_0.part.$$
  trap '[ -z "$work" ] || rm -rf "$work"; rm -f "$part"' EXIT
  "$target/bin/llama-quantize" --allow-requantize "$q4_1" "$part" Q4_0 >"$peers/quantize.log" 2>&1 \
    || { tail -n 20 "$peers/quantize.log" >&2; say "the conversion failed; see $peers/quantize.log"; exit 1; }
  mv "$part" "$q4_0"
fi
say "the Q4_0 model, converted from Q4_1 (slightly worse than from the full weights): $q4_0"
echo "$server"
