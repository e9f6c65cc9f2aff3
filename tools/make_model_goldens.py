#!/usr/bin/env python3
"""Makes the tiny random models under tests/golden/models and what transformers computes with them.

    pip install torch transformers safetensors numpy
    tools/make_model_goldens.py tests/golden/models

Each model is a real Hugging Face directory (config.json, model.safetensors) plus expected.safetensors:
`prompt` (token ids), `logits` (float32, every prompt position) and `greedy` (64 tokens). All of it is
computed in float32 from the weights as saved. A seed is taken only if the greedy text is varied and
no choice in it is close, so that a difference in rounding cannot change a token.
"""

import json
import pathlib
import shutil
import sys

import torch
from transformers import AutoModelForCausalLM
from transformers import LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config

from golden_answers import save_expected, take_first_clear_seed

SMALL = dict(
    vocab_size=80,
    hidden_size=32,
    intermediate_size=40,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=128,
    rms_norm_eps=1e-5,
    bos_token_id=1,
    eos_token_id=2,
    use_cache=True,
)


def rope(kind, theta=10000.0, **extra):
    return dict(rope_parameters=dict(rope_type=kind, rope_theta=theta, **extra))


# name: (config class, options, dtype on disk, how config.json spells rope and dtype)
# style "new" is what transformers 5 writes; "rope_type" and "type" are the two older spellings.
MODELS = {
    "llama_mha": (LlamaConfig, dict(num_key_value_heads=4), "float32", "new"),
    "llama_gqa_tied": (
        LlamaConfig,
        dict(num_key_value_heads=1, tie_word_embeddings=True),
        "bfloat16",
        "rope_type",
    ),
    "llama_f16": (LlamaConfig, dict(num_hidden_layers=3), "float16", "rope_type"),
    "llama_attention_bias": (LlamaConfig, dict(attention_bias=True), "bfloat16", "new"),
    "llama_mlp_bias": (LlamaConfig, dict(mlp_bias=True, hidden_act="gelu"), "bfloat16", "new"),
    "llama_rope_linear": (LlamaConfig, rope("linear", factor=4.0), "bfloat16", "type"),
    "llama_rope_llama3": (
        LlamaConfig,
        rope(
            "llama3",
            theta=500.0,
            factor=8.0,
            low_freq_factor=1.0,
            high_freq_factor=4.0,
            original_max_position_embeddings=32,
        ),
        "bfloat16",
        "rope_type",
    ),
    "llama_rope_yarn": (
        LlamaConfig,
        rope("yarn", theta=1000.0, factor=4.0, original_max_position_embeddings=32),
        "bfloat16",
        "type",
    ),
    "llama_rope_yarn_mscale": (
        LlamaConfig,
        rope(
            "yarn",
            theta=1000.0,
            factor=8.0,
            beta_fast=16.0,
            beta_slow=2.0,
            mscale=1.0,
            mscale_all_dim=0.5,
            original_max_position_embeddings=16,
        ),
        "bfloat16",
        "new",
    ),
    "mistral_window": (
        MistralConfig,
        dict(
            hidden_size=36,
            intermediate_size=44,
            vocab_size=83,
            head_dim=20,
            num_attention_heads=4,
            sliding_window=7,
            hidden_act="gelu_pytorch_tanh",
        ),
        "bfloat16",
        "new",
    ),
    "mistral_full": (MistralConfig, dict(sliding_window=None), "bfloat16", "rope_type"),
    "qwen2": (Qwen2Config, dict(), "float32", "rope_type"),
    "qwen2_window": (
        Qwen2Config,
        dict(num_hidden_layers=3, use_sliding_window=True, sliding_window=5, max_window_layers=1),
        "bfloat16",
        "rope_type",
    ),
    "qwen3": (Qwen3Config, dict(head_dim=16, tie_word_embeddings=True), "bfloat16", "new"),
    "qwen3_yarn_window": (
        Qwen3Config,
        dict(
            head_dim=24,
            num_hidden_layers=3,
            attention_bias=True,
            use_sliding_window=True,
            sliding_window=6,
            layer_types=["full_attention", "sliding_attention", "full_attention"],
            **rope("yarn", factor=4.0, attention_factor=1.2, original_max_position_embeddings=32),
        ),
        "bfloat16",
        "new",
    ),
}


def randomise(model, seed):
    """Weights far from the usual 0.02: sharp attention and logits that are not flat."""
    gen = torch.Generator().manual_seed(seed)
    for name, p in model.named_parameters():
        noise = torch.randn(p.shape, generator=gen)
        with torch.no_grad():
            if "norm" in name:
                p.copy_(1.0 + 0.2 * noise)
            elif name.endswith("bias"):
                p.copy_(0.3 * noise)
            elif "embed" in name:
                p.copy_(noise)
            else:
                p.copy_(noise * 1.6 / p.shape[1] ** 0.5)


def old_spelling(path, style):
    config = json.loads(path.read_text())
    parameters = dict(config.pop("rope_parameters"))
    config["rope_theta"] = parameters.pop("rope_theta")
    kind = parameters.pop("rope_type")
    config["rope_scaling"] = None if kind == "default" else {style: kind, **parameters}
    config["torch_dtype"] = config.pop("dtype")
    path.write_text(json.dumps(config, indent=2) + "\n")


def attempt(name, out, seed):
    cls, options, dtype, style = MODELS[name]
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(cls(**{**SMALL, **options}))
    randomise(model, seed)
    model.to(getattr(torch, dtype)).save_pretrained(out)
    (out / "generation_config.json").unlink(missing_ok=True)
    if style != "new":
        old_spelling(out / "config.json", style)

    model = AutoModelForCausalLM.from_pretrained(
        out, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    return save_expected(model, seed + 1, out / "expected.safetensors")


def emptied(directory):
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    return directory


def main():
    root = pathlib.Path(sys.argv[1])
    only = sys.argv[2:]
    for name in only or MODELS:
        take_first_clear_seed(name, lambda seed: attempt(name, emptied(root / name), seed))


if __name__ == "__main__":
    main()
