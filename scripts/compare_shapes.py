#!/usr/bin/env python3
"""Sends the same requests to two servers and lists the fields that only one of them returns, or that differ in type.

    scripts/compare_shapes.py OURS OTHER     addresses, such as http://127.0.0.1:8080
"""

import json
import sys
import urllib.error
import urllib.request

USER = [{"role": "user", "content": "What is the capital of France?"}]
CHAT = {"messages": USER, "max_tokens": 8, "temperature": 0}
STREAM = {"stream": True, "stream_options": {"include_usage": True}}
REQUESTS = {
    "models": ("/v1/models", None),
    "health": ("/health", None),
    "chat": ("/v1/chat/completions", CHAT),
    "chat, streamed": ("/v1/chat/completions", CHAT | STREAM),
    "completion": ("/v1/completions", {"prompt": "One, two,", "max_tokens": 4, "temperature": 0}),
    "completion, streamed": ("/v1/completions", {"prompt": "One, two,", "max_tokens": 4, "temperature": 0} | STREAM),
    "response": ("/v1/responses", {"input": USER[0]["content"], "max_output_tokens": 8, "temperature": 0}),
    "response, streamed": (
        "/v1/responses", {"input": USER[0]["content"], "max_output_tokens": 8, "temperature": 0, "stream": True}
    ),
    "tokenize": ("/tokenize", {"content": "a b"}),
    "detokenize": ("/detokenize", {"tokens": [65, 66]}),
    "no messages": ("/v1/chat/completions", {"max_tokens": 4}),
    "wrong type": ("/v1/chat/completions", CHAT | {"temperature": "hot"}),
    "too long": ("/v1/chat/completions", {"messages": [{"role": "user", "content": "word " * 50_000}]}),
    "no JSON": ("/v1/chat/completions", "{"),
    "no such endpoint": ("/v1/nothing", None),
}


def ask(base, path, body):
    """The status and the JSON values of a response."""
    data = body if isinstance(body, str) or body is None else json.dumps(body)
    request = urllib.request.Request(base + path, data and data.encode(), {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request) as response:
            status, kind, text = response.status, response.headers["content-type"], response.read().decode()
    except urllib.error.HTTPError as error:
        status, kind, text = error.code, error.headers["content-type"], error.read().decode()
    if not kind.startswith("text/event-stream"):
        return status, [json.loads(text)]
    data = [line[6:] for line in text.splitlines() if line.startswith("data: ")]
    return status, [json.loads(line) for line in data if line != "[DONE]"] + [{"[DONE]": data[-1] == "[DONE]"}]


def fields(value, path=""):
    """The paths and types of all fields."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from fields(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        yield f"{path}[]", "list"
        for inner in value:
            yield from fields(inner, f"{path}[]")
    else:
        yield path, {"int": "number", "float": "number", "NoneType": "null"}.get(type(value).__name__, type(value).__name__)


def shape(values):
    """All types of each field, over the events of a stream."""
    found = {}
    for value in values:
        # The fields of a streamed response depend on the type of the event.
        event = f"{value['type']}: " if str(value.get("type", "")).startswith("response.") else ""
        for path, kind in fields(value):
            found.setdefault(event + path, set()).add(kind)
    return found


ours, other = sys.argv[1:]
for name, (path, body) in REQUESTS.items():
    (our_status, our_values), (other_status, other_values) = ask(ours, path, body), ask(other, path, body)
    a, b = shape(our_values), shape(other_values)
    status = f"status {our_status} and {other_status}" if our_status != other_status else f"status {our_status}"
    print(f"{name}: {status}")
    for label, paths in [("  only ours: ", a.keys() - b.keys()), ("  only other:", b.keys() - a.keys())]:
        if paths:
            print(label, ", ".join(sorted(paths)))
    for path in sorted(a.keys() & b.keys()):
        if a[path] != b[path]:
            print(f"  {path}: {'/'.join(sorted(a[path]))} and {'/'.join(sorted(b[path]))}")
