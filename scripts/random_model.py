#!/usr/bin/env python3
"""Writes a model with random weights as a GGUF file, to time forward passes without a trained model. Needs only Python.

    scripts/random_model.py SHAPE FILE [TYPE]

SHAPE is one of: tiny, 135m, 1b, llama-3.2-1b (the same), llama-3.2-3b, qwen3-0.6b, qwen3-1.7b, qwen3-4b, gemma3-1b, gemma3-4b.
TYPE is a type of matrix (F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K; default: Q8_0) or one of llama.cpp's mixtures
Q4_K_M and Q5_K_M. As llama.cpp's quantizer does, it makes the head Q6_K, and replaces K-quants where a width is no multiple of 256.
"""

import math
import random
import struct
import sys

# Architecture, layers, width, heads, KV heads, width of a head, width of the feed-forward network, vocabulary, base of RoPE
SHAPES = {
    "tiny": ("llama", 2, 128, 4, 2, 32, 256, 512, 10_000),
    "135m": ("llama", 30, 576, 9, 3, 64, 1536, 49152, 10_000),
    "llama-3.2-1b": ("llama", 16, 2048, 32, 8, 64, 8192, 128256, 500_000),
    "llama-3.2-3b": ("llama", 28, 3072, 24, 8, 128, 8192, 128256, 500_000),
    "qwen3-0.6b": ("qwen3", 28, 1024, 16, 8, 128, 3072, 151936, 1_000_000),
    "qwen3-1.7b": ("qwen3", 28, 2048, 16, 8, 128, 6144, 151936, 1_000_000),
    "qwen3-4b": ("qwen3", 36, 2560, 32, 8, 128, 9728, 151936, 1_000_000),
    "gemma3-1b": ("gemma3", 26, 1152, 4, 1, 256, 6912, 262144, 1_000_000),
    "gemma3-4b": ("gemma3", 34, 2560, 8, 4, 256, 10240, 262144, 1_000_000),
}
SHAPES["1b"] = SHAPES["llama-3.2-1b"]
# Number in GGUF, columns and bytes of a block, and its half-precision numbers: their place and their size. Weights then have about the
# standard deviation 1.5 / sqrt(width), so products keep the scale of their input.
TYPES = {
    "F32": (0, 1, 4, {}),
    "F16": (1, 1, 2, {}),
    "BF16": (30, 1, 2, {}),
    "Q4_0": (2, 32, 18, {0: 1 / 3.1}),
    "Q4_1": (3, 32, 20, {0: 1 / 3.1, 2: -7.5 / 3.1}),
    "Q5_0": (6, 32, 22, {0: 1 / 6.2}),
    "Q5_1": (7, 32, 24, {0: 1 / 6.2, 2: -15.5 / 6.2}),
    "Q8_0": (8, 32, 34, {0: 1 / 50}),
    "Q4_K": (12, 256, 144, {0: 1 / 200, 2: 7.5 / 200}),
    "Q5_K": (13, 256, 176, {0: 1 / 400, 2: 15.5 / 400}),
    "Q6_K": (14, 256, 210, {208: 1 / 900}),
}
MIXTURES = {"Q4_K_M": "Q4_K", "Q5_K_M": "Q5_K"}
# For widths that are no multiple of 256.
REPLACEMENTS = {"Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}
CONTEXT = 8192
ALIGNMENT = 32
# Blocks that a matrix repeats. A prime number, so that rows differ.
POOL = 65521
UINT32, FLOAT32, STRING, ARRAY, INT32 = 4, 6, 8, 9, 5


def string(text):
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def metadata(key, kind, value):
    return string(key) + struct.pack("<I", kind) + value


def whole(key, value):
    return metadata(key, UINT32, struct.pack("<I", value))


def number(key, value):
    return metadata(key, FLOAT32, struct.pack("<f", value))


def array(key, kind, items):
    return metadata(key, ARRAY, struct.pack("<IQ", kind, len(items)) + b"".join(items))


def type_of(name, width, layer, layers, wanted):
    """The type of a matrix, by the rules of llama.cpp's quantizer."""
    kind = MIXTURES.get(wanted, wanted)
    more = layer < layers // 8 or layer >= 7 * layers // 8 or (layer - layers // 8) % 3 == 2
    # The embedding is the head too.
    if name == "token_embd" and kind not in ("F16", "BF16", "Q8_0"):
        kind = "Q6_K"
    elif wanted in MIXTURES and more and name in ("attn_v", "ffn_down"):
        kind = "Q6_K"
    columns = TYPES[kind][1]
    if width % columns:
        kind = REPLACEMENTS.get(kind, kind)
    if width % TYPES[kind][1]:
        sys.exit(f"{name}: {width} columns are not whole blocks of {kind}")
    return kind


def pool(source, kind, width):
    """Random blocks of a type, for a matrix of this width."""
    _, columns, size, halves = TYPES[kind]
    data = bytearray(source.randbytes(POOL * size))
    for place, factor in halves.items():
        value = struct.pack("<e", 1.5 * factor / math.sqrt(width))
        data[place::size], data[place + 1::size] = value[:1] * POOL, value[1:] * POOL
    if columns == 1:
        # Any sign and mantissa, and an exponent that gives the standard deviation.
        bits, bias = (7, 127) if kind == "BF16" else (10, 15)
        exponent = bias + round(math.log2(1.0 / math.sqrt(width)))
        low, high = (exponent << bits) & 255, exponent << bits >> 8
        mantissa = (1 << bits) - 1
        data[0::2] = data[0::2].translate(bytes(byte & mantissa & 255 | low for byte in range(256)))
        data[1::2] = data[1::2].translate(bytes(byte & (128 | mantissa >> 8) | high for byte in range(256)))
    return data


def main(shape, path, wanted="Q8_0"):
    arch, layers, width, heads, kv_heads, head, wide, vocab, base = SHAPES[shape]
    queries, keys = heads * head, kv_heads * head
    # Name, width, rows; a vector has 0 rows.
    parts = [
        ("attn_norm", width, 0), ("attn_q", width, queries), ("attn_k", width, keys), ("attn_v", width, keys),
        ("attn_output", queries, width), ("ffn_norm", width, 0), ("ffn_gate", width, wide), ("ffn_up", width, wide),
        ("ffn_down", wide, width),
    ]
    if arch in ("qwen3", "gemma3"):
        parts += [("attn_q_norm", head, 0), ("attn_k_norm", head, 0)]
    if arch == "gemma3":
        parts += [("post_attention_norm", width, 0), ("post_ffw_norm", width, 0)]
    tensors = [("token_embd.weight", width, vocab, type_of("token_embd", width, 0, layers, wanted))]
    for layer in range(layers):
        for part, columns, rows in parts:
            kind = type_of(part, columns, layer, layers, wanted) if rows else "F32"
            tensors.append((f"blk.{layer}.{part}.weight", columns, rows, kind))
    tensors.append(("output_norm.weight", width, 0, "F32"))

    entries = [
        metadata("general.architecture", STRING, string(arch)),
        whole(f"{arch}.embedding_length", width),
        whole(f"{arch}.feed_forward_length", wide),
        whole(f"{arch}.block_count", layers),
        whole(f"{arch}.attention.head_count", heads),
        whole(f"{arch}.attention.head_count_kv", kv_heads),
        whole(f"{arch}.attention.key_length", head),
        whole(f"{arch}.attention.value_length", head),
        whole(f"{arch}.context_length", CONTEXT),
        whole(f"{arch}.rope.dimension_count", head),
        number(f"{arch}.attention.layer_norm_rms_epsilon", 1e-6 if arch != "llama" else 1e-5),
        number(f"{arch}.rope.freq_base", base),
        metadata("tokenizer.ggml.model", STRING, string("gpt2")),
        metadata("tokenizer.ggml.pre", STRING, string("gpt-2")),
        array("tokenizer.ggml.tokens", STRING, [string(chr(0x10000 + token)) for token in range(vocab)]),
        array("tokenizer.ggml.token_type", INT32, [struct.pack("<i", 1)] * vocab),
        array("tokenizer.ggml.merges", STRING, []),
        whole("tokenizer.ggml.eos_token_id", 1),
    ]
    if arch == "gemma3":
        entries.append(whole("gemma3.attention.sliding_window", 512 if width < 2000 else 1024))
    source = random.Random(0)
    pools = {}
    with open(path, "wb") as file:
        file.write(b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(entries)) + b"".join(entries))
        offset = 0
        for name, columns, rows, kind in tensors:
            identifier, block, size, _ = TYPES[kind]
            dimensions = [columns, rows] if rows else [columns]
            file.write(string(name) + struct.pack(f"<I{len(dimensions)}QIQ", len(dimensions), *dimensions, identifier, offset))
            offset += -(-(columns * max(rows, 1) // block * size) // ALIGNMENT) * ALIGNMENT
        for _, columns, rows, kind in tensors:
            file.write(bytes(-file.tell() % ALIGNMENT))
            if not rows:
                file.write(struct.pack("<f", 1.0) * columns)
                continue
            key = (kind, columns)
            if key not in pools:
                pools[key] = pool(source, *key)
            left = columns * rows // TYPES[kind][1] * TYPES[kind][2]
            while left:
                data = memoryview(pools[key])[:left]
                file.write(data)
                left -= len(data)
        file.write(bytes(-file.tell() % ALIGNMENT))


if __name__ == "__main__":
    known = len(sys.argv) in (3, 4) and sys.argv[1] in SHAPES
    if not known or len(sys.argv) == 4 and sys.argv[3] not in {**TYPES, **MIXTURES}:
        sys.exit(__doc__)
    main(*sys.argv[1:])
