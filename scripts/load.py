#!/usr/bin/env python3
"""Measures `upcycle serve` and llama-server under load: tokens a second in all, time to the first token, time between tokens.

    scripts/load.py PROMPTS OUT UPCYCLE MODEL LLAMA_SERVER LLAMA_MODEL [--streams 1,2,4,8,16] [--rounds 3] [--tokens 64] [--threads 2]

PROMPTS is a file of Spec-Bench (JSON lines with `turns`). All servers run at once and are asked in turn, so that a change of the
machine's speed reaches all. Each measurement sends one request per stream at the same moment, at temperature 0, and reads exactly
TOKENS tokens of each. OUT gets one JSON line per measurement; a table goes to standard output.
"""

import argparse
import asyncio
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time

# Events that come so close to each other are of one step, in seconds.
SAME_STEP = 0.001


def start(name, command, ready):
    """Starts a server. Returns it with the address that its log says."""
    log = tempfile.NamedTemporaryFile("w+", prefix=f"load-{name}-")
    process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    for _ in range(600):
        with open(log.name) as text:
            found = re.search(ready, text.read())
        if found:
            return process, found[1]
        if process.poll() is not None:
            break
        time.sleep(0.1)
    with open(log.name) as text:
        sys.exit(f"{name} did not start:\n{text.read()}")


async def ask(port, method, path, body=""):
    """Sends a request. Returns the reader of its response."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\ncontent-type: application/json\r\n"
    writer.write(f"{head}content-length: {len(body.encode())}\r\n\r\n{body}".encode())
    return reader, writer


async def healthy(port):
    for _ in range(1200):
        reader, writer = await ask(port, "GET", "/health")
        status = await reader.readline()
        writer.close()
        if b" 200 " in status:
            return
        await asyncio.sleep(0.1)
    sys.exit("a server did not load its model")


async def stream(port, prompt, tokens):
    """Streams one answer. Returns the times of its steps, in seconds from the request."""
    body = json.dumps({
        "messages": [{"role": "user", "content": prompt}], "max_tokens": tokens, "temperature": 0, "ignore_eos": True,
        "stream": True, "stream_options": {"include_usage": True},
    })
    begin = time.perf_counter()
    reader, writer = await ask(port, "POST", "/v1/chat/completions", body)
    times, counted, last = [], 0, None
    while line := await reader.readline():
        if not line.startswith(b"data: {"):
            continue
        event = json.loads(line[6:])
        if "error" in event:
            sys.exit(f"an answer failed: {event}")
        if event.get("usage"):
            counted = event["usage"]["completion_tokens"]
        if event["choices"] and event["choices"][0]["delta"].get("content"):
            now = time.perf_counter() - begin
            # The tokens of one step come together.
            if not times or now - times[-1] > SAME_STEP:
                times.append(now)
    writer.close()
    if counted != tokens:
        sys.exit(f"expected {tokens} tokens, found {counted}")
    return times


async def measure(port, prompts, tokens):
    begin = time.perf_counter()
    answers = await asyncio.gather(*(stream(port, prompt, tokens) for prompt in prompts))
    seconds = time.perf_counter() - begin
    gaps = sorted(b - a for times in answers for a, b in zip(times, times[1:]))
    rank = lambda share: gaps[min(len(gaps) - 1, int(share * len(gaps)))]
    return {
        "tokens_per_second": len(prompts) * tokens / seconds,
        "first_token": statistics.median(times[0] for times in answers),
        "gap_p50": rank(0.5), "gap_p99": rank(0.99),
    }


async def main():
    parser = argparse.ArgumentParser()
    for name in ["prompts", "out", "upcycle", "model", "llama_server", "llama_model"]:
        parser.add_argument(name)
    parser.add_argument("--streams", default="1,2,4,8,16")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    widths = [int(width) for width in given.streams.split(",")]
    with open(given.prompts) as lines:
        prompts = [json.loads(line)["turns"][0] for line in lines]
    # Short ones: reading prompts is another measurement.
    prompts = [prompt for prompt in prompts if len(prompt) < 400][:: max(1, len(prompts) // 64)]

    ours = [given.upcycle, "serve", "--model", given.model, "--port", "0",
            "--set", f"backend.cpu.threads={given.threads}", "--set", f"engine.max_sequences={max(widths)}"]
    llama = [given.llama_server, "-m", given.llama_model, "--host", "127.0.0.1", "--port", "8971", "-t", str(given.threads),
             "-tb", str(given.threads), "-np", str(max(widths)), "-c", str(1024 * max(widths))]
    listening = r"listening on http://127\.0\.0\.1:(\d+)"
    servers = {
        "plain": start("plain", [*ours, "--drafter", "none"], listening),
        "drafted": start("drafted", [*ours, "--drafter", "mixed"], listening),
        "llama-server": start("llama-server", llama, r"http://127\.0\.0\.1:(\d+)"),
    }
    found = {}
    try:
        for _, port in servers.values():
            await healthy(port)
            await measure(port, prompts[:2], 16)
        with open(given.out, "w") as out:
            for turn in range(given.rounds):
                for width in widths:
                    # Other prompts in every round: a cache would otherwise know them.
                    at = (turn * sum(widths) + width) % (len(prompts) - width)
                    for name, (_, port) in servers.items():
                        result = await measure(port, prompts[at:at + width], given.tokens)
                        found.setdefault((name, width), []).append(result)
                        print(json.dumps({"server": name, "streams": width, "round": turn, **result}), file=out)
    finally:
        for process, _ in servers.values():
            process.terminate()
    median = lambda name, width, key: statistics.median(result[key] for result in found[name, width])
    print("| streams | server | tokens/s | over llama-server | first token ms | p50 ms | p99 ms | p99 / p50 |")
    print("|---|---|---|---|---|---|---|---|")
    for width in widths:
        for name in servers:
            of = lambda key: median(name, width, key)
            pairs = zip(found[name, width], found["llama-server", width])
            ratio = statistics.median(a["tokens_per_second"] / b["tokens_per_second"] for a, b in pairs)
            print(f"| {width} | {name} | {of('tokens_per_second'):.0f} | {ratio:.2f} | {of('first_token') * 1e3:.0f} "
                  f"| {of('gap_p50') * 1e3:.1f} | {of('gap_p99') * 1e3:.1f} | {of('gap_p99') / of('gap_p50'):.1f} |")


asyncio.run(main())
