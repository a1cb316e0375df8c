"""Writes test/reference/data/gguf_blocks.json: blocks of each quantised GGUF type, and their values by the format's
own Python package. The file is committed; this script is for making it anew.

    pip install gguf==0.19.0
    python test/reference/tools/make_gguf_blocks.py > test/reference/data/gguf_blocks.json
"""

import base64
import json
import sys

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType as T
from gguf.quants import dequantize, quantize

random = np.random.default_rng(4)


def halves(values):
    return np.array(values, dtype=np.float16).view(np.uint8)


# Ordinary scales, a negative one, a subnormal one, the largest, zero.
SCALES = [0.0123, -0.37, 3e-7, 65504.0, 0.0, 1.0]
# Where scale and minimum (or None) begin in a block.
SCALE_AT = {
    T.Q4_0: (0, None), T.Q4_1: (0, 2), T.Q5_0: (0, None), T.Q5_1: (0, 2), T.Q8_0: (0, None),
    T.Q4_K: (0, 2), T.Q5_K: (0, 2), T.Q6_K: (208, None),
}  # fmt: skip

result = {}
for type_, (scale_at, min_at) in SCALE_AT.items():
    values, size = GGML_QUANT_SIZES[type_]
    blocks = random.integers(0, 256, (len(SCALES), size), dtype=np.uint8)
    for block, scale in zip(blocks, SCALES):
        block[scale_at : scale_at + 2] = halves([scale])
        if min_at is not None:
            block[min_at : min_at + 2] = halves([scale * 0.731])
    if values == 32:  # the package has no quantiser for the others
        blocks = np.concatenate([blocks, quantize(random.normal(0, 0.3, (1, 64)).astype(np.float32), type_).reshape(-1, size)])
    floats = dequantize(blocks, type_).astype("<f4")
    result[type_.name] = {
        "blocks": base64.b64encode(blocks.tobytes()).decode(),
        "values": base64.b64encode(floats.tobytes()).decode(),
    }
json.dump(result, sys.stdout, indent=2)
print()
