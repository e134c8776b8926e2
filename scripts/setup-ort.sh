#!/usr/bin/env bash
# Downloads ONNX Runtime's shared library once, from the PyPI wheel of the version below. Prints its path; everything else goes to
# stderr.
#
#   scripts/setup-ort.sh            for the CPU
#   scripts/setup-ort.sh --cuda     with CUDA and TensorRT (256 MB; Linux on x86-64 only)
#   scripts/setup-ort.sh --python   also the Python packages that the tests compare with: onnx, onnxruntime, numpy
set -euo pipefail
cd "$(dirname "$0")/.."

version=1.31.1
cache=${UPCYCLE_ORT:-.cache/ort}
package=onnxruntime
kind=cpu
python=no
say() { echo "setup-ort: $*" >&2; }
for argument; do
  case "$argument" in
    --cuda) package=onnxruntime-gpu kind=cuda ;;
    --python) python=yes ;;
    *) say "unknown argument $argument"; exit 2 ;;
  esac
done

case "$kind-$(uname -s)-$(uname -m)" in
  cpu-Linux-x86_64)
    platform=manylinux_2_28_x86_64 sha256=5752bd508126ae7c49894d3b9d2e83f0c3d487319246d04c444b393308d7ad7f ;;
  cpu-Linux-aarch64)
    platform=manylinux_2_28_aarch64 sha256=da05378364c44d4407e463982d2bf8d5e4cfea873283757e48beeb41df97b7f3 ;;
  cpu-Darwin-arm64)
    platform=macosx_14_0_arm64 sha256=60b6b69bfe580eab576cacc5d132a0e9cf2a37fcfd18d46dd191042b1d1ed0d7 ;;
  cuda-Linux-x86_64)
    platform=manylinux_2_28_x86_64 sha256=e26c475fe361b2015f45b4b824bd13f0bb20204e59b62814e6f0acd5f3d491a6 ;;
  *)
    say "no wheel of $package $version is known for $(uname -s) on $(uname -m);"
    say "install ONNX Runtime $version yourself, and set ORT_DYLIB_PATH or backend.ort.library to its library"
    exit 1 ;;
esac
case "$(uname -s)" in Darwin) library=libonnxruntime.dylib ;; *) library=libonnxruntime.so ;; esac
target=$cache/$kind

need_pip() {
  command -v python3 >/dev/null && python3 -m pip --version >/dev/null 2>&1 ||
    { say "python3 with pip is needed to download the wheel (Debian: apt-get install python3 python3-pip)"; exit 1; }
}

if [ ! -f "$target/$library" ] || [ "$(cat "$target/version" 2>/dev/null)" != "$version" ]; then
  need_pip
  mkdir -p "$cache"
  work=$(mktemp -d "$cache/.fetch.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  say "downloading $package==$version once into $target"
  # The wheels of all Python versions have the same library.
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
    --implementation cp --python-version 3.11 --abi cp311 --platform "$platform" --dest "$work" "$package==$version" >&2
  found=$( (sha256sum "$work"/*.whl 2>/dev/null || shasum -a 256 "$work"/*.whl) | cut -d' ' -f1)
  [ "$found" = "$sha256" ] || { say "expected a wheel with the sha256 $sha256, found $found; nothing was kept"; exit 1; }
  mkdir "$work/lib"
  python3 - "$work" "$work/lib" "$library" <<'PY'
import glob, os, re, shutil, sys, zipfile

folder, target, library = sys.argv[1:]
(wheel,) = glob.glob(folder + "/*.whl")
with zipfile.ZipFile(wheel) as archive:
    for member in archive.namelist():
        name = os.path.basename(member)
        # The main library gets its plain name; the libraries of its providers keep theirs.
        if re.fullmatch(r"libonnxruntime(\.so\.[\d.]+|\.[\d.]+\.dylib)", name):
            name = library
        elif not re.fullmatch(r"libonnxruntime_providers_\w+\.so", name):
            continue
        with archive.open(member) as source, open(os.path.join(target, name), "wb") as sink:
            shutil.copyfileobj(source, sink, 1 << 20)
assert os.path.exists(os.path.join(target, library)), "the wheel has no " + library
PY
  echo "$version" >"$work/lib/version"
  rm -rf "$target"
  mv "$work/lib" "$target"
fi

if [ "$python" = yes ] && [ "$(cat "$cache/python/version" 2>/dev/null)" != "$version" ]; then
  need_pip
  say "installing onnx, onnxruntime $version and numpy for the tests into $cache/python"
  rm -rf "$cache/python"
  python3 -m pip install --quiet --disable-pip-version-check --target "$cache/python" \
    "onnxruntime==$version" "onnx==1.23.2" numpy >&2
  echo "$version" >"$cache/python/version"
fi

echo "$(cd "$target" && pwd)/$library"
