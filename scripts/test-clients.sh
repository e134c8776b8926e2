#!/usr/bin/env bash
# Asks `upcycle serve` on the real model through clients that people have: openai (Python and Node), litellm, langchain-openai and llm.
# Then schemathesis sends requests made from /openapi.json. Installs the clients once into .cache/clients (500 MB, about 2 minutes).
#
#   scripts/test-clients.sh [BINARY]     by default target/debug/upcycle, which it builds
set -euo pipefail
cd "$(dirname "$0")/.."

say() { echo "test-clients: $*"; }
binary=${1:-}
if [ -z "$binary" ]; then
  cargo build --quiet --locked --package upcycle-cli
  binary=${CARGO_TARGET_DIR:-target}/debug/upcycle
fi
model=$(./scripts/get-model.sh)

for tool in python3 npm; do
  command -v "$tool" >/dev/null || { say "$tool is missing (Debian: apt-get install python3-venv nodejs npm)" >&2; exit 1; }
done
clients=$PWD/.cache/clients
wanted=tests/clients/requirements.txt
if ! cmp -s "$wanted" "$clients/venv/requirements.txt"; then
  say "installing Python clients into $clients/venv"
  python3 -m venv --clear "$clients/venv"
  "$clients/venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$wanted"
  cp "$wanted" "$clients/venv/"
fi
if ! cmp -s tests/clients/package.json "$clients/node/package.json" || [ ! -d "$clients/node/node_modules" ]; then
  say "installing the Node client into $clients/node"
  mkdir -p "$clients/node"
  cp tests/clients/package.json "$clients/node/"
  npm install --silent --no-audit --no-fund --no-package-lock --prefix "$clients/node"
fi

work=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true; rm -rf "$work"' EXIT
key=a-key-for-tests
# Starts a server on a model and sets `base`.
start() {
  : >"$work/log"
  "$binary" serve --model "$1" --port 0 --api-key "$key" --set drafter.budget=8 2>"$work/log" &
  server=$!
  for _ in $(seq 600); do
    base=$(sed -n 's/.*listening on \(http:[^ ]*\).*/\1/p' "$work/log")
    [ -z "$base" ] || ! python3 -c 'import sys, urllib.request as r; r.urlopen(sys.argv[1])' "$base/health" 2>/dev/null || return 0
    kill -0 "$server" 2>/dev/null || break
    sleep 0.2
  done
  cat "$work/log" >&2
  exit 1
}
# A server that crashed does not end well.
stop() {
  kill "$server"
  wait "$server" || { cat "$work/log" >&2; exit 1; }
  server=
}

start "$model"
python=$clients/venv/bin
# litellm otherwise downloads a table of prices.
LITELLM_LOCAL_MODEL_COST_MAP=True "$python/python" tests/clients/clients.py "$base" "$key"

# Node finds packages beside the file.
cp tests/clients/client.mjs "$clients/node/"
node "$clients/node/client.mjs" "$base" "$key"

name=$(basename "$model" .gguf)
export LLM_USER_PATH=$work/llm
mkdir -p "$LLM_USER_PATH"
cat >"$LLM_USER_PATH/extra-openai-models.yaml" <<YAML
- model_id: local
  model_name: $name
  api_base: $base/v1
  api_key_name: local
YAML
"$python/llm" keys set local --value "$key"
ask=("$python/llm" -m local -o temperature 0 -o max_tokens 24 -s 'You answer in one short sentence.' 'What is the capital of France?')
streamed=$("${ask[@]}")
whole=$("${ask[@]}" --no-stream)
[[ $streamed == *Paris* && $streamed == "$whole" ]] || { say "llm: \`$streamed\` and \`$whole\`" >&2; exit 1; }
if "$python/llm" -m local -o temperature -1 hello >"$work/refused" 2>&1 || ! grep -q temperature "$work/refused"; then
  say "llm: a negative temperature was accepted: $(cat "$work/refused")" >&2
  exit 1
fi
echo "llm: passed"

stop

# A context of 64 tokens, so that no answer takes long.
python3 - "$model" "$work/short.gguf" <<'PY'
import sys

source, target = sys.argv[1:]
with open(source, "rb") as file:
    model = bytearray(file.read())
key = b"llama.context_length"
at = model.index(key) + len(key) + 4  # the name of a type, then the number
model[at : at + 4] = (64).to_bytes(4, "little")
with open(target, "wb") as file:
    file.write(model)
PY
start "$work/short.gguf"
# Valid requests can be refused: for their length, and for 1.0 where an integer is expected.
(cd "$work" && "$python/schemathesis" run "$base/openapi.json" --header "Authorization: Bearer $key" --max-time 60 --seed 1 --no-color \
  --exclude-checks positive_data_acceptance) >"$work/schemathesis" || { cat "$work/schemathesis" >&2; exit 1; }
tail -n 5 "$work/schemathesis"
stop
say "all clients passed"
