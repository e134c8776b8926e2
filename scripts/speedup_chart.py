#!/usr/bin/env python3
"""Draws the README's chart from result files of `upcycle bench`: speed of one arm over plain decoding, by group of prompts.

    python3 scripts/speedup_chart.py ARM LABEL=RESULTS.json [LABEL=RESULTS.json]... >docs/speedup.svg
"""
import json
import sys

COLOURS = ["#2a78b8", "#e0872d", "#4c9a5b"]
NAMES = {None: "all prompts", "math_reasoning": "math", "rag": "RAG", "qa": "question answering", "multi_turn": "multi-turn chat"}
LEFT, RIGHT, BAR, GAP, SCALE = 150, 60, 16, 16, 140


def speedups(path, arm):
    """The group and its speed-up with a 95 % interval; the group `None` stands for all prompts."""
    with open(path) as file:
        results = json.load(file)
    arms = [arm in entry["name"].split() for entry in results["arms"]]
    return {entry["group"]: entry["speedup"] for entry in results["summaries"] if arms[entry["arm"]]}


def draw(series):
    groups = sorted(series[0][1], key=lambda group: (group is not None, -series[0][1][group]["value"]))
    most = max(entry["high"] for _, values in series for entry in values.values())
    step = BAR * len(series) + GAP
    width, height = LEFT + int(most * SCALE) + RIGHT, 60 + step * len(groups)
    yield (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
           'font-family="system-ui, sans-serif" font-size="13">')
    yield '<title>Speed over plain decoding, by kind of prompt</title>'
    yield f'<rect width="{width}" height="{height}" fill="#fff"/>'
    x = LEFT
    for index, (label, _) in enumerate(series):
        yield f'<rect x="{x}" y="12" width="12" height="12" fill="{COLOURS[index]}"/><text x="{x + 18}" y="23">{label}</text>'
        x += 40 + 7 * len(label)
    for row, group in enumerate(groups):
        top = 40 + row * step
        name = NAMES.get(group, group)
        weight = ' font-weight="bold"' if group is None else ""
        yield f'<text x="{LEFT - 10}" y="{top + BAR * len(series) / 2 + 5}" text-anchor="end"{weight}>{name}</text>'
        for index, (_, values) in enumerate(series):
            entry, y = values[group], top + index * BAR
            end, low, high = (LEFT + entry[key] * SCALE for key in ("value", "low", "high"))
            yield f'<rect x="{LEFT}" y="{y + 1}" width="{end - LEFT:.1f}" height="{BAR - 2}" fill="{COLOURS[index]}"/>'
            yield f'<path d="M{low:.1f} {y + BAR / 2}H{high:.1f}" stroke="#222" stroke-opacity=".55"/>'
            yield f'<text x="{high + 6:.1f}" y="{y + BAR - 4}"{weight}>{entry["value"]:.2f}</text>'
    yield f'<path d="M{LEFT + SCALE} 34V{height - 20}" stroke="#222" stroke-dasharray="3 3"/>'
    yield f'<text x="{LEFT + SCALE}" y="{height - 6}" text-anchor="middle">1 = plain decoding</text>'
    yield "</svg>"


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    pairs = (argument.split("=", 1) for argument in sys.argv[2:])
    print("\n".join(draw([(label, speedups(path, sys.argv[1])) for label, path in pairs])))
