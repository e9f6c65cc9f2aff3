#!/usr/bin/env python3
"""Makes tests/golden/packed_models: tiny models with AWQ, GPTQ, fp8 and compressed-tensors weights,
and what transformers computes with the weights that they stand for.

    pip install numpy torch transformers safetensors compressed-tensors
    pip install --no-deps --only-binary :all: autoawq==0.2.7.post3 auto-gptq==0.7.1
    tools/make_packed_models.py

Integers, zeros and scales are drawn at random and packed here as the formats say. What they stand for
is computed by the packages that introduced the formats: autoawq's `dequantize_gemm`, and the matrix
that auto-gptq's CPU layer multiplies with. Only their plain Python parts are imported.
For the other formats see tools/scaled_models.py.
"""

import importlib.util
import json
import pathlib
import sys
import types

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

import scaled_models
from golden_answers import save_expected, take_first_clear_seed

OUT = pathlib.Path(__file__).parent.parent / "tests" / "golden" / "packed_models"
CONFIG = dict(
    vocab_size=80,
    hidden_size=64,
    intermediate_size=96,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=128,
    rms_norm_eps=1e-5,
    bos_token_id=1,
    eos_token_id=2,
)
AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)  # output that each nibble holds, the lowest first
# name: (method, group size, keys of quantization_config, options)
MODELS = {
    "awq": ("awq", 32, dict(version="gemm", zero_point=True), {}),
    "gptq_symmetric": ("gptq", 32, dict(sym=True, desc_act=False), dict(symmetric=True)),
    "gptq_asymmetric": ("gptq", 16, dict(sym=False, desc_act=False), {}),
    "gptq_act_order": ("gptq", 32, dict(sym=True, desc_act=True), dict(symmetric=True, mixed=True)),
    "gptq_one_group": ("gptq", -1, dict(sym=False, desc_act=False), dict(no_order=True)),
    "gptq_v2": ("gptq", 32, dict(sym=False, desc_act=False, checkpoint_format="gptq_v2"), {}),
}


def plain_module(package, path):
    """One file of an installed package, without the rest of it."""
    found = importlib.util.find_spec(package)
    where = pathlib.Path(found.submodule_search_locations[0]) / path
    spec = importlib.util.spec_from_file_location(where.stem, where)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pack(values, order):
    """[..., 8 n] -> [..., n]: nibble i of a word holds element order[i] of its eight."""
    eight = values.reshape(*values.shape[:-1], -1, 8).astype(np.uint32)
    words = np.zeros(eight.shape[:-1], np.uint32)
    for i, element in enumerate(order):
        words |= eight[..., element] << np.uint32(4 * i)
    return torch.from_numpy(words.view(np.int32))


def awq_parts(q, zeros, scales):
    return {
        "qweight": pack(q, AWQ_ORDER),
        "qzeros": pack(zeros, AWQ_ORDER),
        "scales": torch.from_numpy(scales),
    }


def gptq_parts(q, zeros, scales, groups, v2):
    stored = zeros if v2 else zeros - 1
    return {
        "qweight": pack(q.T, range(8)).T.contiguous(),
        "qzeros": pack(stored, range(8)),
        "scales": torch.from_numpy(scales),
        "g_idx": torch.from_numpy(groups),
    }


def awq_matrix(parts, group):
    from_awq = plain_module("awq", "utils/packing_utils.py")
    return from_awq.dequantize_gemm(
        parts["qweight"], parts["qzeros"], parts["scales"].float(), 4, group
    ).T


def gptq_matrix(parts, group, outputs):
    """Multiplies the identity by auto-gptq's layer."""
    sys.modules.setdefault("autogptq_cuda_64", types.ModuleType("autogptq_cuda_64"))
    sys.modules.setdefault("autogptq_cuda_256", types.ModuleType("autogptq_cuda_256"))
    layer_class = plain_module("auto_gptq", "nn_modules/qlinear/qlinear_cuda.py").QuantLinear
    inputs = parts["qweight"].shape[0] * 8
    layer = layer_class(4, group, inputs, outputs, False, weight_dtype=torch.float32)
    for name, part in parts.items():
        setattr(layer, name, part.float() if name == "scales" else part)
    layer.autogptq_cuda_available = False
    with torch.no_grad():
        return layer(torch.eye(inputs)).T


def draw(random, shape, method, group, options):
    """Parts of one matrix [outputs, inputs] and what it stands for."""
    outputs, inputs = shape
    width = inputs if group == -1 else group
    count = inputs // width
    q = random.integers(0, 16, (inputs, outputs))
    # A stored zero of 15 has no agreed meaning, as packers spoil it.
    zeros = random.integers(4, 12, (count, outputs))
    if options.get("symmetric"):
        zeros[:] = 8
    scales = ((0.7 + 0.6 * random.random((count, outputs))) * 0.35 / inputs**0.5).astype(np.float16)
    if method == "awq":
        parts = awq_parts(q, zeros, scales)
        return parts, awq_matrix(parts, width)
    groups = (np.arange(inputs) // width).astype(np.int32)
    if options.get("mixed"):
        random.shuffle(groups)
    parts = gptq_parts(q, zeros, scales, groups, v2=options.get("v2", False))
    # The layer knows the first version only: the same with its way to write zeros.
    known = gptq_parts(q, zeros, scales, groups, v2=False)
    matrix = gptq_matrix(known, width, outputs)
    if options.get("no_order"):
        del parts["g_idx"]
    return parts, matrix


def words_model(name):
    """Sizes, quantization_config, and how to draw a matrix of an AWQ or GPTQ model."""
    method, group, keys, options = MODELS[name]
    options = options | {"v2": "gptq_v2" in keys.values()}
    exact = method == "gptq" and options.get("symmetric") and not options.get("mixed")

    def drawn(random, _, shape):
        return (*draw(random, shape, method, group, options), exact)

    return {}, dict(quant_method=method, bits=4, group_size=group, **keys), drawn


def scaled_model(name):
    """The same for codes with scales."""
    sizes, described, _, options = scaled_models.MODELS[name]

    def drawn(random, full, shape):
        if any(part in full for part in options.get("plain", [])):
            return None
        return (*scaled_models.draw(random, full, shape, name), options.get("blocks"))

    return sizes, described, drawn


def attempt(name, out, seed):
    sizes, quantized, drawn = (words_model if name in MODELS else scaled_model)(name)
    random = np.random.default_rng(seed)
    config = LlamaConfig(**CONFIG | sizes)
    model = LlamaForCausalLM(config).float().eval()
    tensors, state = {}, {}
    for full, parameter in model.named_parameters():
        shape = tuple(parameter.shape)
        found = drawn(random, full, shape) if "_proj" in full else None
        if found:
            parts, matrix, exact = found
            base = full.removesuffix("weight")
            tensors |= {base + part: x.contiguous() for part, x in parts.items()}
            state[full] = matrix.float() if exact else matrix.to(torch.bfloat16).float()
            continue
        noise = torch.from_numpy(random.normal(size=shape)).float()
        value = 1 + 0.2 * noise if "norm" in full else noise
        if "lm_head" in full or "_proj" in full:
            value = noise * 1.6 / shape[1] ** 0.5
        tensors[full] = value.to(torch.float16)
        state[full] = tensors[full].float()
    out.mkdir(parents=True, exist_ok=True)
    save_file(tensors, out / "model.safetensors")
    described = config.to_dict() | {
        "architectures": ["LlamaForCausalLM"],
        "dtype": "float16",
        "quantization_config": quantized,
    }
    (out / "config.json").write_text(json.dumps(described, indent=2) + "\n")
    model.load_state_dict(state)
    return save_expected(model, seed, out / "expected.safetensors")


def main():
    for name in sys.argv[1:] or [*MODELS, *scaled_models.MODELS]:
        take_first_clear_seed(name, lambda seed: attempt(name, OUT / name, seed))


if __name__ == "__main__":
    main()
