#!/usr/bin/env python3
"""Times four ONNX formulations of attention on the CPU, in turn:

1. plain operators over past and new rows separately, as `upcycle export` writes them;
2. GroupQueryAttention over one buffer of past and present;
3. the standard's Attention with a past (operator set 23);
4. Attention behind TensorScatter over a buffer (operator set 24).

The graph has thirty layers in the shape of SmolLM2-135M in f32, with attention alone. Prints the median milliseconds of a pass, and
the largest difference of the results from the first formulation.

    PYTHONPATH=.cache/ort/python python3 scripts/compare_attention.py [ROUNDS]       (after scripts/setup-ort.sh --python)
"""
import statistics
import sys
import time

import numpy as np
import onnxruntime as ort
from onnx import TensorProto as T
from onnx import helper as h

LAYERS, HEADS, KV_HEADS, HEAD, ROOM = 30, 9, 3, 64, 128
GROUP, WIDTH, KV = HEADS // KV_HEADS, HEADS * HEAD, KV_HEADS * HEAD
SCALE = HEAD**-0.5


def floats(name, shape):
    return h.make_tensor_value_info(name, T.FLOAT, shape)


def whole(name, shape, kind=T.INT64):
    return h.make_tensor_value_info(name, kind, shape)


class Graph:
    """A graph whose layers take `x`, `[rows, WIDTH]`, and use its first columns as keys and values."""

    def __init__(self):
        self.nodes, self.inputs, self.outputs, self.constants = [], [floats("x", ["rows", WIDTH])], [], {}

    def constant(self, value):
        name = f"c{len(self.constants)}"
        self.constants[name] = h.make_tensor(name, T.INT64 if value.dtype == np.int64 else T.FLOAT, value.shape, value.ravel())
        return name

    def node(self, operator, name, inputs, outputs=None, domain="", **attributes):
        self.nodes.append(h.make_node(operator, inputs, outputs or [name], name=name, domain=domain, **attributes))
        return name

    def shape(self, name, x, *dimensions):
        return self.node("Reshape", name, [x, self.constant(np.array(dimensions, np.int64))])

    def session(self, opset):
        graph = h.make_graph(self.nodes, "attention", self.inputs, self.outputs + [floats("y", ["rows", WIDTH])], list(self.constants.values()))
        opsets = [h.make_opsetid("", opset), h.make_opsetid("com.microsoft", 1)]
        model = h.make_model(graph, opset_imports=opsets, ir_version=11)
        options = ort.SessionOptions()
        options.intra_op_num_threads = 2
        options.log_severity_level = 3
        return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def keys(self, layer, x):
        starts, ends, axis = (self.constant(np.array([v], np.int64)) for v in (0, KV, 1))
        return self.node("Slice", f"k{layer}", [x, starts, ends, axis])

    def finish(self, x):
        self.node("Identity", "y", [x])


def apart():
    g = Graph()
    g.inputs += [floats("new_bias", ["rows", "rows"]), floats("past_bias", ["past"])]
    scale, whole_past = g.constant(np.array(SCALE, np.float32)), g.node("Shape", "past_length", ["past_bias"])
    rows = g.node("Shape", "row_count", ["x"], start=0, end=1)
    tiled = g.node("Tile", "tiled", ["new_bias", g.constant(np.array([GROUP, 1], np.int64))])
    height = g.node("Mul", "height", [rows, g.constant(np.array([GROUP], np.int64))])
    extent = g.node("Concat", "extent", [height, whole_past], axis=0)
    bias = g.node("Concat", "bias", [g.node("Expand", "expanded", ["past_bias", extent]), tiled], axis=1)
    lengths = g.node("Concat", "lengths", [whole_past, rows], axis=0)
    x = "x"
    for layer in range(LAYERS):
        at = lambda name: f"{layer}.{name}"
        new = g.shape(at("new"), g.keys(layer, x), -1, KV_HEADS, HEAD)
        past = [f"past.{layer}.{part}" for part in "kv"]
        g.inputs += [floats(name, ["past", KV_HEADS, HEAD]) for name in past]
        q = g.node("Transpose", at("q.t"), [g.shape(at("q"), x, -1, KV_HEADS, GROUP, HEAD)], perm=[1, 2, 0, 3])
        q = g.node("Mul", at("q.scaled"), [g.shape(at("q.rows"), q, KV_HEADS, -1, HEAD), scale])
        scores = lambda name, keys: g.node("MatMul", at(name), [q, g.node("Transpose", at(name + ".t"), [keys], perm=[1, 2, 0])])
        both = g.node("Concat", at("scores"), [scores("past", past[0]), scores("fresh", new)], axis=2)
        shares = g.node("Softmax", at("shares"), [g.node("Add", at("biased"), [both, bias])], axis=-1)
        halves = [at("past.shares"), at("new.shares")]
        g.node("Split", at("split"), [shares, lengths], halves, axis=2)
        mixed = lambda name, shares, values: g.node("MatMul", at(name), [shares, g.node("Transpose", at(name + ".t"), [values], perm=[1, 0, 2])])
        y = g.node("Add", at("mixed"), [mixed("pv", halves[0], past[1]), mixed("nv", halves[1], new)])
        y = g.node("Transpose", at("heads"), [g.shape(at("groups"), y, KV_HEADS, GROUP, -1, HEAD)], perm=[2, 0, 1, 3])
        x = g.shape(at("rows"), y, -1, WIDTH)
    g.finish(x)
    return g.session(18)


def group_query():
    g = Graph()
    g.inputs += [floats("bias", [1, 1, "rows", "total"]), whole("seqlens", [1], T.INT32), whole("total_length", [], T.INT32)]
    x = g.shape("x3", "x", 1, -1, WIDTH)
    for layer in range(LAYERS):
        cut, past = g.shape(f"k{layer}.3", g.keys(layer, g.shape(f"x{layer}.2", x, -1, WIDTH)), 1, -1, KV), [f"past.{layer}.{part}" for part in "kv"]
        present = [f"present.{layer}.{part}" for part in "kv"]
        g.inputs += [floats(name, [1, KV_HEADS, "room", HEAD]) for name in past]
        g.outputs += [floats(name, [1, KV_HEADS, "room", HEAD]) for name in present]
        inputs = [x, cut, cut, *past, "seqlens", "total_length", "", "", "", "bias"]
        x = g.node("GroupQueryAttention", f"{layer}.y", inputs, [f"{layer}.y", *present], "com.microsoft", num_heads=HEADS, kv_num_heads=KV_HEADS)
    g.finish(g.shape("y2", x, -1, WIDTH))
    return g.session(18)


def standard(scattered):
    g = Graph()
    g.inputs += [floats("bias", ["rows", "total"])]
    if scattered:
        g.inputs += [whole("written", [1]), whole("filled", [1])]
    x = g.shape("x3", "x", 1, -1, WIDTH)
    for layer in range(LAYERS):
        at = lambda name: f"{layer}.{name}"
        cut = g.keys(layer, g.shape(f"x{layer}.2", x, -1, WIDTH))
        past, present = ([f"{name}.{layer}.{part}" for part in "kv"] for name in ("past", "present"))
        g.inputs += [floats(name, [1, KV_HEADS, "room", HEAD]) for name in past]
        g.outputs += [floats(name, [1, KV_HEADS, "room2", HEAD]) for name in present]
        if scattered:
            rows = g.node("Transpose", at("new"), [g.shape(at("new.4"), cut, 1, -1, KV_HEADS, HEAD)], perm=[0, 2, 1, 3])
            for before, after in zip(past, present):
                g.node("TensorScatter", after, [before, rows, "written"], axis=2)
            q = g.node("Transpose", at("q"), [g.shape(at("q.4"), x, 1, -1, HEADS, HEAD)], perm=[0, 2, 1, 3])
            y = g.node("Attention", at("y"), [q, *present, "bias", "", "", "filled"])
            x = g.shape(at("y3"), g.node("Transpose", at("y.t"), [y], perm=[0, 2, 1, 3]), 1, -1, WIDTH)
        else:
            rows = g.shape(at("new"), cut, 1, -1, KV)
            x = g.node("Attention", at("y"), [x, rows, rows, "bias", *past], [at("y"), *present], q_num_heads=HEADS, kv_num_heads=KV_HEADS)
    g.finish(g.shape("y2", x, -1, WIDTH))
    return g.session(24 if scattered else 23)


class Arm:
    """A session with all inputs and outputs bound, for passes of `rows` rows after `past` tokens."""

    def __init__(self, session, feeds, shared=(), fetched=()):
        self.session, self.binding, self.kept = session, session.io_binding(), []
        for name, value in feeds.items():
            self.kept.append(value)
            self.binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(value))
        for name, value in shared:
            self.kept.append(value)
            self.binding.bind_ortvalue_output(name, ort.OrtValue.ortvalue_from_numpy(value))
        for name in (*fetched, "y"):
            self.binding.bind_output(name)
        self.times = []

    def run(self):
        start = time.perf_counter()
        self.session.run_with_iobinding(self.binding)
        self.times.append(time.perf_counter() - start)

    def result(self):
        """The output `y`, which was bound last."""
        return self.binding.copy_outputs_to_cpu()[-1]


def arms(sessions, past, rows):
    draw = np.random.default_rng(5)
    x = draw.standard_normal((rows, WIDTH), np.float32)
    filled = [[draw.standard_normal((past, KV_HEADS, HEAD), np.float32) for _ in "kv"] for _ in range(LAYERS)]
    causal = np.triu(np.full((rows, rows), -np.inf, np.float32), 1)
    bias = np.concatenate([np.zeros((rows, past), np.float32), causal], 1)
    parts = [(layer, part) for layer in range(LAYERS) for part in range(2)]
    label = lambda layer, part: f"{layer}.{'kv'[part]}"
    made = {}

    def add(name, feeds, shared=(), fetched=()):
        made[name] = Arm(sessions[name], {"x": x, **feeds}, shared, fetched)

    # A prefix of a larger buffer.
    prefixes = {}
    for layer, part in parts:
        buffer = np.zeros((past + ROOM, KV_HEADS, HEAD), np.float32)
        buffer[:past] = filled[layer][part]
        prefixes[f"past.{label(layer, part)}"] = buffer[:past]
    add("apart", {"new_bias": causal, "past_bias": np.zeros(past, np.float32), **prefixes})

    def headed(room):
        buffers = {}
        for layer, part in parts:
            buffer = np.zeros((1, KV_HEADS, past + room, HEAD), np.float32)
            buffer[0, :, :past] = filled[layer][part].transpose(1, 0, 2)
            buffers[label(layer, part)] = buffer
        return buffers

    buffers = headed(ROOM)
    feeds = {"bias": bias[None, None], "seqlens": np.array([past + rows - 1], np.int32), "total_length": np.array(past + rows, np.int32)}
    feeds.update({f"past.{name}": buffer for name, buffer in buffers.items()})
    add("shared buffer", feeds, [(f"present.{name}", buffer) for name, buffer in buffers.items()])

    buffers = headed(0)
    add("Attention", {"bias": bias, **{f"past.{name}": buffer for name, buffer in buffers.items()}}, (), [f"present.{name}" for name in buffers])

    if "scattered" in sessions:
        buffers = headed(ROOM)
        wide = np.concatenate([bias, np.full((rows, ROOM - rows), -np.inf, np.float32)], 1)
        feeds = {"bias": wide, "written": np.array([past], np.int64), "filled": np.array([past + rows], np.int64)}
        feeds.update({f"past.{name}": buffer for name, buffer in buffers.items()})
        add("scattered", feeds, [(f"present.{name}", buffer) for name, buffer in buffers.items()])
    return made


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    sessions = {"apart": apart(), "shared buffer": group_query(), "Attention": standard(False)}
    try:
        sessions["scattered"] = standard(True)
    except Exception as error:
        print(f"scattered: onnxruntime {ort.__version__} does not load it: {error}")
    print(f"onnxruntime {ort.__version__}, {rounds} rounds; milliseconds, and the largest difference from the first")
    for past in (100, 2000):
        for rows in (1, 5, 17, 81):
            made = arms(sessions, past, rows)
            for _ in range(rounds + 1):
                for arm in made.values():
                    arm.run()
            expected = made["apart"].result()
            cells = []
            for name, arm in made.items():
                off = np.abs(arm.result().reshape(expected.shape) - expected).max()
                cells.append(f"{name} {statistics.median(arm.times[1:]) * 1e3:.2f} ({off:.0e})")
            print(f"{rows:3} rows behind {past:4}: " + ", ".join(cells), flush=True)


main()
