#!/usr/bin/env python3
"""Writes a llama model with random weights as a GGUF file with Q8_0 matrices, to time forward passes without a trained model. Needs
only Python.

    scripts/random_model.py 135m|1b|tiny FILE
"""

import math
import random
import struct
import sys

# layers, width, heads, KV heads, width of the feed-forward network, vocabulary
SIZES = {
    "tiny": (2, 128, 4, 2, 256, 512),
    "135m": (30, 576, 9, 3, 1536, 49152),
    "1b": (16, 2048, 32, 8, 8192, 128256),
}
CONTEXT = 2048
ALIGNMENT = 32
F32, Q8_0 = 0, 8
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


def matrix(source, width, rows):
    """Q8_0 blocks: a scale in half precision and 32 signed bytes. Products keep the scale of their input."""
    scale = struct.pack("<e", 2.5 / math.sqrt(width) / 127)
    left = width * rows // 32
    while left:
        blocks = min(left, 1 << 20)
        data = bytearray(source.randbytes(34 * blocks))
        data[0::34] = scale[:1] * blocks
        data[1::34] = scale[1:] * blocks
        yield data
        left -= blocks


def main(size, path):
    layers, width, heads, kv_heads, wide, vocab = SIZES[size]
    keys = width // heads * kv_heads
    # Name, width, rows; a vector has 0 rows.
    tensors = [("token_embd.weight", width, vocab)]
    for layer in range(layers):
        parts = [
            ("attn_norm", width, 0), ("attn_q", width, width), ("attn_k", width, keys), ("attn_v", width, keys),
            ("attn_output", width, width), ("ffn_norm", width, 0), ("ffn_gate", width, wide), ("ffn_up", width, wide),
            ("ffn_down", wide, width),
        ]
        tensors += [(f"blk.{layer}.{part}.weight", *shape) for part, *shape in parts]
    tensors.append(("output_norm.weight", width, 0))

    entries = [
        metadata("general.architecture", STRING, string("llama")),
        whole("llama.embedding_length", width),
        whole("llama.feed_forward_length", wide),
        whole("llama.block_count", layers),
        whole("llama.attention.head_count", heads),
        whole("llama.attention.head_count_kv", kv_heads),
        whole("llama.context_length", CONTEXT),
        whole("llama.rope.dimension_count", width // heads),
        number("llama.attention.layer_norm_rms_epsilon", 1e-5),
        number("llama.rope.freq_base", 10000.0),
        metadata("tokenizer.ggml.model", STRING, string("gpt2")),
        metadata("tokenizer.ggml.pre", STRING, string("gpt-2")),
        array("tokenizer.ggml.tokens", STRING, [string(chr(0x10000 + token)) for token in range(vocab)]),
        array("tokenizer.ggml.token_type", INT32, [struct.pack("<i", 1)] * vocab),
        array("tokenizer.ggml.merges", STRING, []),
        whole("tokenizer.ggml.eos_token_id", 1),
    ]
    source = random.Random(0)
    with open(path, "wb") as file:
        file.write(b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(entries)) + b"".join(entries))
        offset = 0
        for name, columns, rows in tensors:
            shape = [columns, rows] if rows else [columns]
            kind, size_in_bytes = (Q8_0, columns * rows // 32 * 34) if rows else (F32, 4 * columns)
            file.write(string(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset))
            offset += -(-size_in_bytes // ALIGNMENT) * ALIGNMENT
        for _, columns, rows in tensors:
            file.write(bytes(-file.tell() % ALIGNMENT))
            for data in matrix(source, columns, rows) if rows else [struct.pack("<f", 1.0) * columns]:
                file.write(data)
        file.write(bytes(-file.tell() % ALIGNMENT))


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in SIZES:
        sys.exit(__doc__)
    main(*sys.argv[1:])
