"""Writes tests/golden/gguf/TYPE.bin: random blocks of a GGUF type, then what they decode to.

    pip install gguf numpy
    python3 tools/make_gguf_goldens.py

Each file holds three blocks as a GGUF file would, then their float32 values as the `gguf` package
decodes them. The bits are random, the 16-bit scales random finite numbers.
"""

import pathlib

import gguf
import numpy as np

BLOCKS = 3
# Where the 16-bit scales of a block stand, in bytes.
SCALES = {
    "F32": [], "F16": [0], "BF16": [], "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2],
    "Q8_0": [0], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208],
}


def main():
    out = pathlib.Path(__file__).parent.parent / "tests" / "golden" / "gguf"
    out.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(1)
    for name, scales in SCALES.items():
        kind = gguf.GGMLQuantizationType[name]
        _, size = gguf.GGML_QUANT_SIZES[kind]
        if name in ("F32", "BF16"):
            bits = random.normal(size=BLOCKS).astype(np.float32).view(np.uint32)
            blocks = bits.view(np.uint8) if name == "F32" else (
                (bits >> 16).astype(np.uint16).view(np.uint8))
            blocks = blocks.reshape(BLOCKS, size).copy()
        else:
            blocks = random.integers(0, 256, (BLOCKS, size), dtype=np.uint8)
        for at in scales:
            blocks[:, at:at + 2] = (
                random.normal(size=(BLOCKS, 1)).astype(np.float16).view(np.uint8))
        values = gguf.dequantize(blocks if name not in ("F32", "F16") else blocks.view(
            np.float32 if name == "F32" else np.float16), kind).astype(np.float32)
        (out / f"{name}.bin").write_bytes(blocks.tobytes() + values.tobytes())


if __name__ == "__main__":
    main()
