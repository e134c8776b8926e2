#!/usr/bin/env bash
# Tests the GPU backends on a machine with an NVIDIA GPU, in minutes: the laws of a verifier, the cost of passes, and the gain of
# drafting.
#
#   scripts/check-cuda.sh [--binary UPCYCLE] [--tests EXECUTABLE] [--candle-tests EXECUTABLE]... [--model FOLDER|GGUF]
#                         [--size 135m|1b] [--provider cuda|cpu]
#
#   --binary    a program built with `--features ort` (and `candle-cuda` for candle); default: built with cargo
#   --tests     the executable of `cargo test -p upcycle-ort --test it --no-run`; default: built with cargo
#   --candle-tests  those of `cargo test -p upcycle-candle --features cuda --test architectures --test sequences --no-run`
#   --model     a GGUF file or an exported folder to decode with; default: random weights of --size, only timed
#   --provider  cpu: a rehearsal without a GPU
#
# It needs no network if ONNX Runtime's library is present (ORT_DYLIB_PATH, or .cache/ort/cuda from scripts/setup-ort.sh --cuda).
# CUDA's own libraries come from the system or from Python packages (PyTorch installs them).
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '\n== %s\n' "$*"; }
fail() { echo "check-cuda: $*" >&2; exit 1; }

binary='' tests='' candle_tests=() model='' size=135m provider=cuda
while [ $# -gt 0 ]; do
  [ $# -ge 2 ] || { echo "check-cuda: $1 has no value, or is unknown" >&2; exit 2; }
  case "$1" in
    --binary) binary=$2 ;;
    --tests) tests=$2 ;;
    --candle-tests) candle_tests+=("$2") ;;
    --model) model=$2 ;;
    --size) size=$2 ;;
    --provider) provider=$2 ;;
    *) echo "check-cuda: unknown argument $1" >&2; exit 2 ;;
  esac
  shift 2
done
case "$provider" in cuda|cpu) ;; *) echo "check-cuda: --provider is cuda or cpu, not $provider" >&2; exit 2 ;; esac

command -v python3 >/dev/null || fail "python3 is needed (Debian: apt-get install python3)"

if [ "$provider" = cuda ]; then
  # Ask the driver itself: a container may have it without nvidia-smi.
  python3 - <<'PY' || fail "found no NVIDIA GPU or no driver; nothing was run"
import ctypes, sys

try:
    driver = ctypes.CDLL("libcuda.so.1")
except OSError:
    sys.exit(1)
count, version, name = ctypes.c_int(), ctypes.c_int(), ctypes.create_string_buffer(100)
if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)) or not count.value:
    sys.exit(1)
driver.cuDriverGetVersion(ctypes.byref(version))
for device in range(count.value):
    driver.cuDeviceGetName(name, len(name), device)
    print(f"{name.value.decode()}, driver for CUDA {version.value // 1000}.{version.value % 1000 // 10}", flush=True)
PY
fi

# Prints the first library that the loader does not find with the given LD_LIBRARY_PATH.
missing() {
  LD_LIBRARY_PATH=$1 python3 - libcudart.so.13 libcublasLt.so.13 libcublas.so.13 libcurand.so.10 <<'PY'
import ctypes, sys

for name in sys.argv[1:]:
    try:
        ctypes.CDLL(name)
    except OSError:
        sys.exit(print(name))
PY
}
if [ "$provider" = cuda ]; then
  libraries=${LD_LIBRARY_PATH:-}
  if [ -n "$(missing "$libraries")" ]; then
    packaged=$(python3 -c 'import glob, sys
folders = ["/usr/local/cuda*/lib64"]
folders += [path + "/nvidia/*/lib" for path in sys.path]
folders += [root + "/lib/python3*/*-packages/nvidia/*/lib" for root in ("/usr", "/usr/local", "/opt/*")]
print(":".join(folder for pattern in folders for folder in sorted(glob.glob(pattern))))')
    libraries=$packaged${libraries:+:$libraries}
  fi
  lacking=$(missing "$libraries")
  [ -z "$lacking" ] || fail "CUDA 13 is needed, but $lacking is neither in the system nor in a Python package (pip install \
nvidia-cublas nvidia-cuda-runtime nvidia-curand)"
  export LD_LIBRARY_PATH=$libraries
fi

kind=$provider
if [ -z "${ORT_DYLIB_PATH:-}" ]; then
  ORT_DYLIB_PATH=$PWD/.cache/ort/$kind/libonnxruntime.so
  if [ ! -f "$ORT_DYLIB_PATH" ]; then
    flag=()
    [ "$kind" = cpu ] || flag=(--cuda)
    ORT_DYLIB_PATH=$(./scripts/setup-ort.sh "${flag[@]}") ||
      fail "cannot find or download ONNX Runtime; set ORT_DYLIB_PATH to a library with $provider"
  fi
fi
[ -f "$ORT_DYLIB_PATH" ] || fail "ORT_DYLIB_PATH is $ORT_DYLIB_PATH, which does not exist"
ORT_DYLIB_PATH=$(realpath "$ORT_DYLIB_PATH")
export ORT_DYLIB_PATH

if [ -z "$binary" ]; then
  command -v cargo >/dev/null || fail "found no cargo to build upcycle; name a program with --binary"
  features=ort,bench
  # candle compiles CUDA kernels.
  [ "$provider" = cpu ] || ! command -v nvcc >/dev/null || features=$features,candle-cuda
  say "building upcycle with $features"
  cargo build --release --locked --package upcycle-cli --features "$features"
  binary=${CARGO_TARGET_DIR:-target}/release/upcycle
fi
[ -x "$binary" ] || fail "$binary is not executable"
binary=$(realpath "$binary")

say "backends"
candle=$("$binary" backends --json | python3 -c 'import json, sys
backend = next(backend for backend in json.load(sys.stdin) if backend["name"] == "candle")
print("yes" if "cuda" in backend["devices"] else "no")')
if [ "$candle" = yes ]; then
  echo "candle: with cuda"
else
  echo "candle: not run, because this program was built without --features candle-cuda"
fi
state=$("$binary" backends --json | PROVIDER=$provider python3 -c 'import json, os, sys
backend = next(backend for backend in json.load(sys.stdin) if backend["name"] == "ort")
provider = os.environ["PROVIDER"]
if not backend["compiled"]:
    print("this program was built without ONNX Runtime (--features ort)")
elif backend["obstacle"]:
    print(backend["obstacle"])
elif provider not in backend["devices"]:
    print("this library has " + ", ".join(backend["devices"]) + ", not " + provider)')
[ -z "$state" ] || fail "ort: $state; nothing was run"
echo "ort: with $provider"

say "laws of a verifier, on tiny models"
# One thread, as in a decoder.
laws=(tiny:: memories:: copies:: --quiet --test-threads 1)
if [ -n "$tests" ]; then
  [ -x "$tests" ] || fail "$tests is not executable"
  UPCYCLE_TEST_ORT_PROVIDER=$provider "$(realpath "$tests")" "${laws[@]}"
elif command -v cargo >/dev/null; then
  UPCYCLE_TEST_ORT_PROVIDER=$provider cargo test --locked --package upcycle-ort --test it -- "${laws[@]}"
else
  echo "not run: found no cargo; name an executable with --tests"
fi

if [ "$candle" = yes ] && [ "$provider" = cuda ]; then
  say "the same for candle on the GPU"
  laws=(--quiet --test-threads 1)
  if [ ${#candle_tests[@]} -gt 0 ]; then
    for executable in "${candle_tests[@]}"; do
      [ -x "$executable" ] || fail "$executable is not executable"
      UPCYCLE_TEST_CANDLE_DEVICE=cuda "$(realpath "$executable")" "${laws[@]}"
    done
  elif command -v cargo >/dev/null && command -v nvcc >/dev/null; then
    UPCYCLE_TEST_CANDLE_DEVICE=cuda cargo test --locked --package upcycle-candle --features cuda --test architectures \
      --test sequences -- "${laws[@]}"
  else
    echo "not run: found no cargo or no nvcc; name executables with --candle-tests"
  fi
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
exported=$model
if [ -z "$model" ]; then
  say "writing a llama model with random weights, $size"
  python3 scripts/random_model.py "$size" "$work/model.gguf"
fi
if [ -f "${model:-$work/model.gguf}" ]; then
  exported=$work/exported
  "$binary" export "${model:-$work/model.gguf}" --to "$exported"
fi
set_provider=()
[ "$provider" = cuda ] || set_provider=(--set 'backend.ort.providers=["cpu"]' --set 'backend.ort.provider_options=[]')
flags=(--config configs/ort-cuda.toml --model "$exported" "${set_provider[@]}")

say "t(n): the cost of a pass with n rows over 256 cached tokens"
"$binary" bench cost "${flags[@]}" --contexts 256 --rows 1,2,3,4,6,8,9,12,16,17,24,32,33,48,64,81 --out "$work/costs"

gguf=${model:-$work/model.gguf}
if [ "$candle" = yes ] && [ "$provider" = cuda ] && [ -f "$gguf" ]; then
  say "the same for candle with the GGUF file"
  "$binary" bench cost --config configs/candle-cuda.toml --model "$gguf" --contexts 256 --rows 1,2,4,8,16,17,32,33,64,81 \
    --out "$work/candle-costs"
  if [ -n "$model" ]; then
    "$binary" bench --config configs/candle-cuda.toml --model "$gguf" --arms plain,recycling:80@paper-80,mixed:auto --per-group 1 \
      --rounds 1 --max-tokens 96 --wait 0 --out "$work/candle-bench"
    "$binary" bench report "$work/candle-bench"
  fi
fi

if [ -n "$model" ]; then
  say "decoding: plain, with the paper's tree, and with the budget auto"
  "$binary" bench "${flags[@]}" --arms plain,recycling:80@paper-80,recycling:auto,mixed:auto --per-group 1 --rounds 1 \
    --max-tokens 96 --wait 0 --out "$work/bench"
  "$binary" bench report "$work/bench"
else
  echo
  echo "decoding: not run with random weights; name a model with --model"
fi
say "all checks passed"
