#!/usr/bin/env python3
"""Compares `upcycle-text` with the chat templates and vocabularies in llama.cpp's source, from the PyPI package llama-cpp-python (68 MB).
Python's Jinja renders the templates with the settings of Hugging Face's apply_chat_template. The expected tokens are those that llama.cpp
ships beside each vocabulary. These files have other licences and are not copied here. Run by hand; no test runs it:

    python3 -m venv /tmp/jinja && /tmp/jinja/bin/pip install jinja2==3.1.6 scikit-build-core
    /tmp/jinja/bin/python crates/text/tests/models/check.py

Exits with 1 on any difference that KNOWN does not list. Do not run it across midnight: templates print the date.
"""
import hashlib
import json
import subprocess
import sys
import tarfile
import tempfile
from datetime import datetime, timezone
from itertools import product
from pathlib import Path

here = Path(__file__).resolve().parent
root = here.parents[3]
sys.path.append(str(here.parent / "fixtures"))
from templates import CONVERSATIONS, environment, render  # noqa: E402

PACKAGE = "llama-cpp-python==0.3.36"
SHA256 = "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e"
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Looks é <up>",
        "parameters": {"type": "object", "properties": {"place": {"type": "string", "description": "where"}}, "required": ["place"]},
    },
}
VARIABLES = [{}, {"enable_thinking": True}, {"enable_thinking": False}, {"tools": [TOOL]}]
# Python fails on loops over missing tools and on JSON of a generator, and escapes for HTML after `|safe`.
KNOWN = {"meetkai-functionary-medium-v3.1.jinja"}
# Errors of `upcycle-text` for vocabularies that it does not support.
UNSUPPORTED = ["UnsupportedKind", "UnknownPreTokenizer", "MissingKey"]


def example(name, file, lines):
    """What an example of the crate says to each line, or its error."""
    program = root / "target/debug/examples" / name
    done = subprocess.run([program, file], input="\n".join(map(json.dumps, lines)), capture_output=True, text=True)
    return [json.loads(line) for line in done.stdout.splitlines()] if done.returncode == 0 else done.stderr.strip()


def templates(folder):
    wrong, renderings, refusals = [], 0, 0
    files = sorted(folder.glob("*.jinja"))
    made = environment(lambda: datetime.now(timezone.utc))
    for file in files:
        template = made.from_string(file.read_text())
        cases = [
            {"messages": messages, "add_generation_prompt": prompt, "variables": variables}
            for messages, prompt, variables in product(CONVERSATIONS, [True, False], VARIABLES)
        ]
        found = example("render", file, cases)
        if isinstance(found, str):
            wrong.append(f"{file.name}: {found}")
            continue
        for case, ours in zip(cases, found, strict=True):
            try:
                text = render(template, case["messages"], case["add_generation_prompt"], case["variables"])
            except Exception:
                refusals += 1
                continue
            renderings += 1
            if ours != {"text": text} and file.name not in KNOWN:
                wrong.append(f"{file.name}: {json.dumps(case)[:200]}\n  expected {text[:500]!r}\n  found {json.dumps(ours)[:500]}")
    print(f"{len(files)} templates: {renderings} renderings that Python makes, {refusals} that it refuses or fails at")
    return wrong


def vocabularies(folder):
    wrong = []
    for file in sorted(folder.glob("ggml-vocab-*.gguf")):
        texts = Path(f"{file}.inp")
        if not texts.exists():
            continue
        texts = texts.read_text().split("\n__ggml_vocab_test__\n")
        expected = [[int(id) for id in line.split()] for line in Path(f"{file}.out").read_text().split("\n")]
        found = example("encode", file, texts)
        if isinstance(found, str):
            known = any(kind in found for kind in UNSUPPORTED)
            print(f"{file.name}: {found[:100]}")
            wrong += [] if known else [f"{file.name}: {found}"]
            continue
        different = [text for text, ours, theirs in zip(texts, found, expected) if ours != theirs]
        print(f"{file.name}: {len(found) - len(different)} of {len(texts)} texts encode as in llama.cpp")
        wrong += [f"{file.name}: {text!r}" for text in different]
    return wrong


def main():
    subprocess.run(["cargo", "build", "--quiet", "-p", "upcycle-text", "--examples"], cwd=root, check=True)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-build-isolation", "--no-binary", ":all:"]
        archive = Path(sys.argv[1]) if len(sys.argv) > 1 else None
        if archive is None:
            subprocess.run([*pip, "--dest", folder, PACKAGE], check=True)
            archive = next(folder.glob("*.tar.gz"))
        found = hashlib.sha256(archive.read_bytes()).hexdigest()
        if found != SHA256:
            sys.exit(f"{archive} has the hash {found}, expected {SHA256}")
        with tarfile.open(archive) as packed:
            packed.extractall(folder, [member for member in packed if "/vendor/llama.cpp/models/" in member.name], filter="data")
        models = next(folder.glob("*/vendor/llama.cpp/models"))
        wrong = templates(models / "templates") + vocabularies(models)
    for each in wrong:
        print(each)
    sys.exit(1 if wrong else 0)


main()
