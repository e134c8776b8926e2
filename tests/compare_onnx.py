"""Checks exported graphs with the official checker, and says what Python's onnxruntime makes of given tokens.

    compare_onnx.py FOLDER TOKENS.json

TOKENS.json holds lists of tokens. Each is scored twice, whole and with its second half behind the keys and values of its
first; the last row's logits of both are printed, one JSON line of two lists for each list of tokens. Exits with 77 where
the packages onnx, onnxruntime and numpy are not there (`scripts/setup-ort.sh --python` fetches them).
"""

import json
import os
import sys

try:
    import numpy as np
    import onnx
    import onnxruntime
except ImportError as missing:
    print(f"skipped: {missing}", file=sys.stderr)
    sys.exit(77)


def main(folder, tokens):
    path = os.path.join(folder, "model.onnx")
    onnx.checker.check_model(path, full_check=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    past = {i.name: i.shape[1:] for i in session.get_inputs() if i.name.startswith("past.")}

    def score(ids, before, start):
        rows = len(ids)
        empty = before is None
        feed = {
            "input_ids": np.array(ids, np.int64),
            "position_ids": np.arange(start, start + rows, dtype=np.int64),
            "attn_bias": np.triu(np.full((rows, rows), -np.inf, np.float32), 1),
            "past_bias": np.full(1, -np.inf, np.float32) if empty else np.zeros(start, np.float32),
            "output_rows": np.array([rows - 1], np.int64),
        }
        for name, shape in past.items():
            feed[name] = np.zeros((1, *shape), np.float32) if empty else before[name.replace("past.", "new.")]
        return dict(zip(names, session.run(None, feed)))

    with open(tokens) as file:
        texts = json.load(file)
    for ids in texts:
        whole = score(ids, None, 0)
        half = len(ids) // 2
        rest = score(ids[half:], score(ids[:half], None, 0), half)
        print(json.dumps([run["logits"][0].tolist() for run in (whole, rest)]))


main(*sys.argv[1:])
