#!/usr/bin/env python3
"""Makes the GGUF models under tests/golden/gguf_models.

    pip install gguf numpy torch transformers safetensors
    tools/make_gguf_models.py

NAME.gguf is tests/golden/models/NAME as a GGUF file: the same weights, so that model's
expected.safetensors holds for it. `split-0000N-of-00003.gguf` is one of them in three parts.
blocks.gguf has a matrix of every block type; q4_k_m.gguf has them as most published files do:
Q4_K, but for what matters most in Q6_K, and an embedding that is the output too.
NAME.expected.safetensors holds what transformers computes with the weights of those two as the
`gguf` package decodes them.
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
Q4_K_M = {name: "Q4_K" for name in BLOCKS if name != "lm_head.weight"} | {
    "model.embed_tokens.weight": "Q6_K",
    LAYER + "self_attn.v_proj.weight": "Q6_K",
    LAYER + "self_attn.o_proj.weight": "Q5_0",  # whose 128 columns are no whole block of Q4_K
    LAYER + "mlp.down_proj.weight": "Q6_K",
}


def random_blocks(random, kind, shape, spread):
    """Blocks of a K type, which the package decodes but does not make: random bits, scaled so that
    they are as spread, and centred."""
    _, size = gguf.GGML_QUANT_SIZES[kind]
    blocks = random.integers(0, 256, (shape[0], shape[1] // 256 * size), dtype=np.uint8)
    units = {"Q4_K": {0: 1, 2: 7.5}, "Q5_K": {0: 1, 2: 15.5}, "Q6_K": {208: 1}}[kind.name]

    def set_units(factor):
        for at in range(0, blocks.shape[1], size):
            for place, unit in units.items():
                number = np.float16([unit * factor]).view(np.uint8)
                blocks[:, at + place : at + place + 2] = number

    set_units(1)
    set_units(spread / gguf.dequantize(blocks, kind).std())
    return blocks


def back(array, heads):
    """rotate_neighbours, undone."""
    half = array.shape[0] // heads // 2
    order = np.arange(array.shape[0]).reshape(heads, half, 2).transpose(0, 2, 1).reshape(-1)
    return array[order]


def make_blocks(path, types, seed):
    """One file; the smallest gap between the best two logits of its greedy text, and its variety."""
    config = LlamaConfig(**CONFIG, tie_word_embeddings="lm_head.weight" not in types)
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
        kind = gguf.GGMLQuantizationType[types[name]]
        # Where it is the output too, a large one would only say the last token again.
        embedding = 0.25 if config.tie_word_embeddings else 1.0
        spread = embedding if "embed" in name else 1.6 / shape[1] ** 0.5
        if types[name].endswith("_K"):
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
        state[name] = values
    hf_to_gguf.finish(writer)
    state = {name: torch.from_numpy(x) for name, x in state.items()}
    model.load_state_dict(state, strict=not config.tie_word_embeddings)
    return save_expected(model, seed, path.with_name(f"{path.stem}.expected.safetensors"))


def main():
    out = TESTS / "gguf_models"
    out.mkdir(parents=True, exist_ok=True)
    for name in SAME:
        hf_to_gguf.convert(TESTS / "models" / name, out / f"{name}.gguf")
    hf_to_gguf.convert(TESTS / "models" / SPLIT, out / "split.gguf", parts=3)
    for name, types in (("blocks", BLOCKS), ("q4_k_m", Q4_K_M)):
        file = out / f"{name}.gguf"
        take_first_clear_seed(file.name, lambda seed: make_blocks(file, types, seed))


if __name__ == "__main__":
    main()
