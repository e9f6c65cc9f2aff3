"""Writes tests/golden/gguf/TYPE.bin: random blocks of a GGUF type, then what they decode to.

    pip install gguf numpy
    python3 tools/make_gguf_goldens.py

Each file holds three blocks as a GGUF file would, then their float32 values as the `gguf` package
decodes them. The bits are random, the 16-bit scales random finite numbers.
Also writes tests/fuzz/corpus/gguf/tiny.gguf, a whole file.
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


def write_tiny(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_uint32("t.u32", 7)
    writer.add_int32("t.i32", -7)
    writer.add_float32("t.f32", 0.5)
    writer.add_bool("t.bool", True)
    writer.add_array("t.words", ["a", "bc"])
    writer.add_tensor("a.weight", np.arange(6, dtype=np.float32).reshape(2, 3))
    kind = gguf.GGMLQuantizationType.Q8_0
    values = np.arange(64, dtype=np.float32).reshape(2, 32)
    writer.add_tensor("b.weight", gguf.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    tests = pathlib.Path(__file__).parent.parent / "tests"
    write_tiny(tests / "fuzz" / "corpus" / "gguf" / "tiny.gguf")
    out = tests / "golden" / "gguf"
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
