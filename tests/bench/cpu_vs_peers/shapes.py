"""Random models in published shapes, written once as a Hugging Face directory and as GGUF files.

The values are normal random numbers, rounded to bf16; q8_0 and q4_0 are quantized from them by the
`gguf` package, embedding and output in q8_0 in both, as `troupe` keeps them. q4_k_m is the mix of
published files: Q4_K, Q6_K for the embedding and for half of what matters most, and Q5_0 and Q8_0 where
a row is no whole block of those. The vocabulary has the real size: GPT-2's byte alphabet and made-up
merges of letters, so that every token is printable.
"""

import dataclasses
import itertools
import json
import pathlib
import string
import struct
import sys

import gguf
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[3] / "tools"))
import k_quants  # noqa: E402


@dataclasses.dataclass(frozen=True)
class Shape:
    name: str
    architecture: str  # of config.json
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    vocabulary: int
    head_dim: int = 64
    bias: bool = False  # of q, k and v; all these shapes tie the embedding to the output


SHAPES = {
    shape.name: shape
    for shape in (
        Shape("tiny", "LlamaForCausalLM", 64, 192, 2, 1, 1, 1024),
        Shape("smollm2-135m", "LlamaForCausalLM", 576, 1536, 30, 9, 3, 49152),
        Shape("qwen2.5-0.5b", "Qwen2ForCausalLM", 896, 4864, 24, 14, 2, 151936, bias=True),
        Shape("llama-3.2-1b", "LlamaForCausalLM", 2048, 8192, 16, 32, 8, 128256),
    )
}
GGUF_TYPES = {
    "bf16": gguf.GGMLQuantizationType.BF16,
    "int8": gguf.GGMLQuantizationType.Q8_0,
    "int4": gguf.GGMLQuantizationType.Q4_0,
}
END = "<|end|>"


def config(shape):
    return {
        "architectures": [shape.architecture],
        "model_type": "qwen2" if shape.bias else "llama",
        "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "vocab_size": shape.vocabulary,
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-5,
        "rope_theta": 500000.0,
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        "hidden_act": "silu",
        "eos_token_id": shape.vocabulary - 1,
    }


def plan(shape):
    """(Hugging Face name, GGUF name, dimensions) of every tensor."""
    q, kv = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    yield "model.embed_tokens.weight", "token_embd.weight", (shape.vocabulary, shape.hidden)
    for i in range(shape.layers):
        hf, own = f"model.layers.{i}.", f"blk.{i}."
        yield hf + "input_layernorm.weight", own + "attn_norm.weight", (shape.hidden,)
        for part, rows in (("q", q), ("k", kv), ("v", kv)):
            name = f"self_attn.{part}_proj."
            yield hf + name + "weight", own + f"attn_{part}.weight", (rows, shape.hidden)
            if shape.bias:
                yield hf + name + "bias", own + f"attn_{part}.bias", (rows,)
        yield hf + "self_attn.o_proj.weight", own + "attn_output.weight", (shape.hidden, q)
        yield hf + "post_attention_layernorm.weight", own + "ffn_norm.weight", (shape.hidden,)
        for part in ("gate", "up"):
            yield (
                hf + f"mlp.{part}_proj.weight",
                own + f"ffn_{part}.weight",
                (shape.intermediate, shape.hidden),
            )
        yield (
            hf + "mlp.down_proj.weight",
            own + "ffn_down.weight",
            (
                shape.hidden,
                shape.intermediate,
            ),
        )
    yield "model.norm.weight", "output_norm.weight", (shape.hidden,)


def values(index, dimensions):
    """The tensor's numbers in f32, all of them bf16 numbers."""
    if len(dimensions) == 1:
        return np.ones(dimensions, np.float32)
    numbers = np.random.default_rng(index).standard_normal(dimensions, np.float32) * 0.02
    bits = numbers.view(np.uint32)
    bits += 0x7FFF + ((bits >> 16) & 1)  # to nearest, ties to even
    bits &= 0xFFFF0000
    return numbers


def byte_alphabet():
    """GPT-2's printable stand-ins for the 256 bytes, in byte order."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    free = itertools.count(256)
    return [chr(b if b in printable else next(free)) for b in range(256)]


def vocabulary(size):
    """(tokens, merges): bytes, then pairs of letters, then triples, then the end token."""
    letters = string.ascii_letters + string.digits + "Ġ"
    merges = itertools.chain(
        ((a, b) for a in letters for b in letters),
        ((a + b, c) for a in letters for b in letters for c in letters),
    )
    merges = list(itertools.islice(merges, size - 257))
    return [*byte_alphabet(), *(a + b for a, b in merges), END], merges


def write_tokenizer(folder, tokens, merges):
    text = {
        "version": "1.0",
        "added_tokens": [
            {
                "id": len(tokens) - 1,
                "content": END,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
        ],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "ByteLevel",
            "add_prefix_space": False,
            "trim_offsets": True,
            "use_regex": True,
        },
        "post_processor": None,
        "decoder": {
            "type": "ByteLevel",
            "add_prefix_space": True,
            "trim_offsets": True,
            "use_regex": True,
        },
        "model": {
            "type": "BPE",
            "vocab": {token: i for i, token in enumerate(tokens)},
            "merges": [list(pair) for pair in merges],
        },
    }
    (folder / "tokenizer.json").write_text(json.dumps(text))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": END}))


def write_directory(shape, folder):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config(shape), indent=2))
    write_tokenizer(folder, *vocabulary(shape.vocabulary))
    header, at = {}, 0
    for name, _, dimensions in plan(shape):
        end = at + int(np.prod(dimensions)) * 2
        header[name] = {"dtype": "BF16", "shape": dimensions, "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    part = folder / "model.safetensors.part"
    with open(part, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for index, (_, _, dimensions) in enumerate(plan(shape)):
            bits = values(index, dimensions).view(np.uint32) >> 16
            file.write(bits.astype(np.uint16).tobytes())
    part.rename(folder / "model.safetensors")


def halves_to_pairs(rows, heads):
    """llama's GGUF files have the elements that rotate together side by side."""
    return (
        rows.reshape(heads, 2, rows.shape[0] // heads // 2, rows.shape[1])
        .swapaxes(1, 2)
        .reshape(rows.shape)
    )


def kind_of(shape, dtype, name, columns):
    """What a GGUF file of `dtype` has the matrix `name` in."""
    parts = name.split(".")
    if dtype == "q4_k_m":
        layer = int(parts[1]) if parts[0] == "blk" else 0
        return k_quants.q4_k_m(parts[-2], layer, shape.layers, columns)
    if dtype == "int4" and parts[0] == "token_embd":
        return gguf.GGMLQuantizationType.Q8_0
    return GGUF_TYPES[dtype]


def write_gguf(shape, dtype, path):
    tokens, merges = vocabulary(shape.vocabulary)
    part = path.with_suffix(".part")
    writer = gguf.GGUFWriter(part, "qwen2" if shape.bias else "llama", use_temp_file=True)
    writer.add_name(shape.name)
    writer.add_context_length(32768)
    writer.add_embedding_length(shape.hidden)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.intermediate)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(500000.0)
    writer.add_rope_dimension_count(shape.head_dim)
    writer.add_vocab_size(shape.vocabulary)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.NORMAL] * (len(tokens) - 1) + [gguf.TokenType.CONTROL])
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_eos_token_id(len(tokens) - 1)
    writer.add_add_bos_token(False)
    for index, (_, name, dimensions) in enumerate(plan(shape)):
        numbers = values(index, dimensions)
        if len(dimensions) == 1:
            writer.add_tensor(name, numbers)
            continue
        if not shape.bias and name.endswith(("attn_q.weight", "attn_k.weight")):
            heads = shape.heads if "attn_q" in name else shape.kv_heads
            numbers = halves_to_pairs(numbers, heads)
        kind = kind_of(shape, dtype, name, numbers.shape[1])
        writer.add_tensor(name, k_quants.quantize(numbers, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    part.rename(path)


def ensure(name, dtype, folder):
    """Writes what is missing of a shape; returns (Hugging Face directory, GGUF file)."""
    shape = SHAPES[name]
    directory = pathlib.Path(folder) / name
    if not (directory / "model.safetensors").exists():
        write_directory(shape, directory)
    path = pathlib.Path(folder) / f"{name}-{dtype}.gguf"
    if not path.exists():
        write_gguf(shape, dtype, path)
    return directory, path
