#!/usr/bin/env bash
# What a pass costs on this machine by its rows, and what draft trees earn there: ten prompts, plain and with trees of
# several sizes, in one run. Compare only figures of one run, and best on a machine that does nothing else.
#
#   scripts/bench.sh [file|f32]...     (both, if none is named)
set -euo pipefail
cd "$(dirname "$0")/.."

[ $# -gt 0 ] || set -- file f32
./scripts/setup.sh
model=$(./scripts/get-model.sh)
cargo build --release --locked --package upcycle
cargo build --release --locked --package upcycle-candle --example cost
upcycle="${CARGO_TARGET_DIR:-target}/release/upcycle"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

echo "== $(grep -m1 'model name' /proc/cpuinfo | cut -d: -f2), $(nproc) processors, load $(cut -d' ' -f1-3 /proc/loadavg)"
grep -m1 -oE 'avx2|avx512_vnni|avx_vnni|asimddp' /proc/cpuinfo | sort -u | tr '\n' ' '; echo
echo "== t(n)/t(1) over 256 cached tokens"
for weights; do
  "${CARGO_TARGET_DIR:-target}/release/examples/cost" "$model" "$weights"
done

echo "== ten prompts, greedy, 96 tokens, one matrix carried on (tokens a second of decoding; tokens a step)"
python3 - tests/fixtures/paper_trace.json >"$work/prompts.jsonl" <<'PY'
import json, sys
for prompt in json.load(open(sys.argv[1]))["prompts"]:
    print(json.dumps({"question_id": prompt["question_id"], "turns": [prompt["prompt"]]}))
PY
for weights; do
  for round in 1 2; do
    for nodes in 0 1 2 3 4 6 8 16 80; do
      "$upcycle" run --config configs/candle-cpu.toml --prompts "$work/prompts.jsonl" --json -n 96 \
        --set drafter.budget=$((nodes > 0 ? nodes : 1)) --set backend.candle.weights=$weights \
        --drafter "$([ "$nodes" -gt 0 ] && echo recycling || echo none)" >"$work/$weights-$nodes-$round.jsonl"
    done
  done
done
python3 - "$work" "$@" <<'PY'
import json, sys
folder, *all_weights = sys.argv[1:]
def read(weights, nodes, round):
    return [json.loads(line) for line in open(f"{folder}/{weights}-{nodes}-{round}.jsonl")]
def rate(runs):
    times = [sum(run["stats"]["time"][part] for part in ("draft", "forward", "accept", "commit", "observe")) for run in runs]
    return sum(sum(run["stats"]["accept_lengths"]) for run in runs) / sum(times)
for weights in all_weights:
    for nodes in (0, 1, 2, 3, 4, 6, 8, 16, 80):
        both = [read(weights, nodes, round) for round in (1, 2)]
        plain = [read(weights, 0, round) for round in (1, 2)]
        runs = both[0]
        lengths = [n for run in runs for n in run["stats"]["accept_lengths"]]
        time = {part: sum(run["stats"]["time"][part] for run in runs) for part in runs[0]["stats"]["time"]}
        share = (time["draft"] + time["observe"]) / (sum(time.values()) - time["prefill"])
        ratios = "/".join(f"{rate(a) / rate(b):.3f}" for a, b in zip(both, plain))
        same = sum(a["tokens"] == b["tokens"] for a, b in zip(both[0], plain[0]))
        print(f"{weights:4} {nodes:2} nodes: {rate(both[0]):6.1f} tokens/s, {ratios} of plain, "
              f"{sum(lengths) / len(lengths):.3f} tokens a step, draft and observe {share:.2%}, same text {same}/{len(runs)}")
PY
