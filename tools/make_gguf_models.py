#!/usr/bin/env python3
"""Makes the GGUF models under tests/golden/gguf_models.

    pip install gguf numpy torch transformers safetensors
    tools/make_gguf_models.py

NAME.gguf is tests/golden/models/NAME as a GGUF file: the same weights, so that model's
expected.safetensors holds for it. `split-0000N-of-00003.gguf` is one of them in three parts.
blocks.gguf has a matrix of every block type, and blocks.expected.safetensors what transformers
computes with the weights as the `gguf` package decodes them; blocks that are decoded to bfloat16
while loading are rounded to it.
"""

import pathlib

import gguf
import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

import hf_to_gguf
from golden_answers import save_expected, take_first_clear_seed

TESTS = pathlib.Path(__file__).parent.parent / "tests" / "golden"
SAME = [
    "llama_attention_bias",
    "llama_f16",
    "llama_gqa_tied",
    "llama_rope_linear",
    "llama_rope_llama3",
    "llama_rope_yarn",
    "qwen2",
    "qwen3",
]
SPLIT = "llama_gqa_tied"

CONFIG = dict(
    vocab_size=96,
    hidden_size=256,
    intermediate_size=256,
    num_hidden_layers=1,
    num_attention_heads=2,
    num_key_value_heads=1,
    head_dim=64,
    max_position_embeddings=128,
    rms_norm_eps=1e-5,
)
LAYER = "model.layers.0."
BLOCKS = {
    "model.embed_tokens.weight": "Q8_0",
    LAYER + "self_attn.q_proj.weight": "Q4_K",
    LAYER + "self_attn.k_proj.weight": "Q4_0",
    LAYER + "self_attn.v_proj.weight": "Q5_0",
    LAYER + "self_attn.o_proj.weight": "Q5_1",
    LAYER + "mlp.gate_proj.weight": "Q4_1",
    LAYER + "mlp.up_proj.weight": "Q8_0",
    LAYER + "mlp.down_proj.weight": "Q5_K",
    "lm_head.weight": "Q6_K",
}
KEPT = ("Q8_0", "Q4_0")


def random_blocks(random, kind, shape, spread):
    """Blocks of a K type, which the package decodes but does not make: random bits, scaled."""
    _, size = gguf.GGML_QUANT_SIZES[kind]
    blocks = random.integers(0, 256, (shape[0], shape[1] // 256 * size), dtype=np.uint8)
    scales = [208] if kind == gguf.GGMLQuantizationType.Q6_K else [0, 2]
    one = np.ones(1, np.float16).view(np.uint8)
    for at in range(0, blocks.shape[1], size):
        for scale in scales:
            blocks[:, at + scale : at + scale + 2] = one
    factor = spread / gguf.dequantize(blocks, kind).std()
    for at in range(0, blocks.shape[1], size):
        for scale in scales:
            blocks[:, at + scale : at + scale + 2] = np.float16([factor]).view(np.uint8)
    return blocks


def bf16(x):
    return torch.from_numpy(x).to(torch.bfloat16).float().numpy()


def back(array, heads):
    """rotate_neighbours, undone."""
    half = array.shape[0] // heads // 2
    order = np.arange(array.shape[0]).reshape(heads, half, 2).transpose(0, 2, 1).reshape(-1)
    return array[order]


def make_blocks(path, seed):
    """One file; the smallest gap between the best two logits of its greedy text, and its variety."""
    config = LlamaConfig(**CONFIG)
    model = LlamaForCausalLM(config).float().eval()
    random = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, "llama")
    described = config.to_dict() | {"architectures": ["LlamaForCausalLM"]}
    hf_to_gguf.write_hyperparameters(writer, described)
    state = {}
    for name, parameter in model.named_parameters():
        shape, out_name = tuple(parameter.shape), hf_to_gguf.gguf_name(name)
        if len(shape) == 1:
            state[name] = (1 + 0.2 * random.normal(size=shape)).astype(np.float32)
            writer.add_tensor(out_name, state[name])
            continue
        kind = gguf.GGMLQuantizationType[BLOCKS[name]]
        spread = 1.0 if "embed" in name else 1.6 / shape[1] ** 0.5
        if BLOCKS[name].endswith("_K"):
            raw = random_blocks(random, kind, shape, spread)
        else:
            values = (random.normal(size=shape) * spread).astype(np.float32)
            raw = gguf.quantize(values, kind)
        writer.add_tensor(out_name, raw, raw_dtype=kind)
        values = gguf.dequantize(raw, kind)
        # The file's rows are in the order that the architecture has there.
        if ".q_proj." in name:
            values = back(values, CONFIG["num_attention_heads"])
        if ".k_proj." in name:
            values = back(values, CONFIG["num_key_value_heads"])
        state[name] = values if BLOCKS[name] in KEPT else bf16(values)
    hf_to_gguf.finish(writer)
    model.load_state_dict({name: torch.from_numpy(x) for name, x in state.items()})
    return save_expected(model, seed, path.with_name("blocks.expected.safetensors"))


def main():
    out = TESTS / "gguf_models"
    out.mkdir(parents=True, exist_ok=True)
    for name in SAME:
        hf_to_gguf.convert(TESTS / "models" / name, out / f"{name}.gguf")
    hf_to_gguf.convert(TESTS / "models" / SPLIT, out / "split.gguf", parts=3)
    blocks = out / "blocks.gguf"
    take_first_clear_seed(blocks.name, lambda seed: make_blocks(blocks, seed))


if __name__ == "__main__":
    main()
