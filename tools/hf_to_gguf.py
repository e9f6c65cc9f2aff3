#!/usr/bin/env python3
"""Writes a Hugging Face directory (Llama, Mistral, Qwen2, Qwen3) as a GGUF file, the way llama.cpp's
converter lays it out, so that tests have files whose contents are known.

    pip install gguf numpy
    tools/hf_to_gguf.py MODEL_DIR OUT.gguf [--type Q8_0] [--parts 3]

Without --type every tensor keeps its type, but norms and biases, which are F32. With one, matrices
whose rows are whole blocks are quantized by the `gguf` package; Q4_K_M is the usual mix of types.
"""

import argparse
import json
import math
import pathlib
import struct

import gguf
import k_quants
import numpy as np

ARCHITECTURES = {
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "llama",
    "Qwen2ForCausalLM": "qwen2",
    "Qwen3ForCausalLM": "qwen3",
}
OUTER = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
}
INNER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
TYPES = {
    "F32": gguf.GGMLQuantizationType.F32,
    "F16": gguf.GGMLQuantizationType.F16,
    "BF16": gguf.GGMLQuantizationType.BF16,
}


def read_safetensors(path):
    """name -> (type, array); BF16 as its 16-bit patterns."""
    blob = path.read_bytes()
    (size,) = struct.unpack_from("<Q", blob)
    header = json.loads(blob[8 : 8 + size])
    numpy_types = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16}
    out = {}
    for name, entry in header.items():
        if name != "__metadata__" and entry["dtype"] in numpy_types:
            first, last = (8 + size + x for x in entry["data_offsets"])
            array = np.frombuffer(blob[first:last], numpy_types[entry["dtype"]])
            out[name] = entry["dtype"], array.reshape(entry["shape"])
    return out


def as_float(kind, array):
    if kind == "BF16":
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(np.float32)


def rotate_neighbours(array, heads):
    """The rows of each head so that those which are rotated together are neighbours."""
    half = array.shape[0] // heads // 2
    order = np.arange(array.shape[0]).reshape(heads, 2, half).transpose(0, 2, 1).reshape(-1)
    return array[order]


def gguf_name(name):
    stem, kind = name.rsplit(".", 1)
    if stem in OUTER:
        return f"{OUTER[stem]}.{kind}"
    _, _, layer, inner = stem.split(".", 3)
    return f"blk.{layer}.{INNER[inner]}.{kind}"


def rope_of(config):
    rope = dict(config.get("rope_parameters") or config.get("rope_scaling") or {})
    rope.setdefault("rope_theta", config.get("rope_theta", 10000.0))
    rope["kind"] = rope.get("rope_type", rope.get("type", "default"))
    return rope


def head_dim_of(config):
    return config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]


def llama3_factors(rope, dim):
    """What each frequency is divided by; transformers' _compute_llama3_parameters, turned round."""
    context = rope["original_max_position_embeddings"]
    low, high, factor = rope["low_freq_factor"], rope["high_freq_factor"], rope["factor"]
    out = []
    for i in range(0, dim, 2):
        turns = context * rope["rope_theta"] ** (-i / dim) / (2 * math.pi)
        share = min(max((turns - low) / (high - low), 0), 1)
        out.append(1 / ((1 - share) / factor + share))
    return np.array(out, np.float32)


def write_hyperparameters(writer, config):
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config.get("num_key_value_heads", config["num_attention_heads"]))
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    dim = head_dim_of(config)
    if dim * config["num_attention_heads"] != config["hidden_size"]:
        writer.add_key_length(dim)
        writer.add_value_length(dim)
    writer.add_rope_dimension_count(dim)
    if config["architectures"][0] == "MistralForCausalLM" and config.get("sliding_window"):
        writer.add_sliding_window(config["sliding_window"])
    rope = rope_of(config)
    writer.add_rope_freq_base(rope["rope_theta"])
    if rope["kind"] == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    elif rope["kind"] == "yarn":
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(rope["factor"])
        writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
        for key, add in (
            ("beta_fast", writer.add_rope_scaling_yarn_beta_fast),
            ("beta_slow", writer.add_rope_scaling_yarn_beta_slow),
        ):
            if key in rope:
                add(rope[key])
        if "attention_factor" in rope:  # readers of GGUF multiply it with what the stretch asks for
            own = 0.1 * math.log(rope["factor"]) + 1
            writer.add_rope_scaling_yarn_attn_factor(rope["attention_factor"] / own)
    elif rope["kind"] == "llama3":
        writer.add_tensor("rope_freqs.weight", llama3_factors(rope, dim))


def type_of(name, array, wanted, layers):
    """The type that the matrix `name` of GGUF gets, or None for its own."""
    if wanted == "Q4_K_M":
        *layer, part, _ = name.split(".")
        wanted = k_quants.q4_k_m(part, int(layer[1]) if layer else 0, layers, array.shape[-1])
    whole = wanted and array.shape[-1] % gguf.GGML_QUANT_SIZES[wanted][0] == 0
    return wanted if whole else None


def write_tensor(writer, name, kind, array, to):
    if array.ndim == 1:
        writer.add_tensor(name, as_float(kind, array))
    elif to:
        writer.add_tensor(name, k_quants.quantize(as_float(kind, array), to), raw_dtype=to)
    elif kind == "BF16":
        writer.add_tensor(name, array.view(np.uint8), raw_dtype=TYPES[kind])
    else:
        writer.add_tensor(name, array)


def write_tensors(writer, config, tensors, wanted=None):
    heads = config["num_attention_heads"]
    kv_heads = config.get("num_key_value_heads", heads)
    llama = ARCHITECTURES[config["architectures"][0]] == "llama"
    for name, (kind, array) in tensors.items():
        if llama and ".q_proj." in name:
            array = rotate_neighbours(array, heads)
        if llama and ".k_proj." in name:
            array = rotate_neighbours(array, kv_heads)
        to = type_of(gguf_name(name), array, wanted, config["num_hidden_layers"])
        write_tensor(writer, gguf_name(name), kind, np.ascontiguousarray(array), to)


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def convert(model, out, wanted=None, parts=1):
    config = json.loads((model / "config.json").read_text())
    tensors = read_safetensors(model / "model.safetensors")
    most = math.ceil((len(tensors) + 1) / parts) if parts > 1 else 0
    writer = gguf.GGUFWriter(
        out, ARCHITECTURES[config["architectures"][0]], split_max_tensors=most
    )
    writer.add_name(model.name)
    write_hyperparameters(writer, config)
    if (model / "tokenizer.json").exists():
        from gguf_vocabulary import write_tokenizer

        write_tokenizer(writer, model)
    write_tensors(writer, config, tensors, wanted)
    finish(writer)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    types = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "F16", "F32", "Q4_K_M"]
    parser.add_argument("--type", choices=types)
    parser.add_argument("--parts", type=int, default=1)
    options = parser.parse_args()
    mix = options.type in (None, "Q4_K_M")
    wanted = options.type if mix else gguf.GGMLQuantizationType[options.type]
    convert(options.model, options.out, wanted, options.parts)


if __name__ == "__main__":
    main()
