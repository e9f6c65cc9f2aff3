"""Measures on one GPU, with PyTorch, what bench-gpu measures with troupe; prints one JSON object.

usage: python3 tests/bench/torch_gpu_peer.py cuda:0
"""

import json
import sys
import time

import torch
import torch.nn.functional as functional


def seconds_of(work, reps=10):
    """Median seconds of `work`, which queues on the GPU."""
    times = []
    for rep in range(reps + 2):
        torch.cuda.synchronize()
        begun = time.perf_counter()
        work()
        torch.cuda.synchronize()
        if rep >= 2:
            times.append(time.perf_counter() - begun)
    return sorted(times)[len(times) // 2]


def attention(device, heads, kv_heads, dim, tokens):
    """Causal attention of one layer with the flash kernel, grouped heads repeated as it wants them."""
    make = lambda count: torch.randn(1, count, tokens, dim, device=device, dtype=torch.bfloat16)
    q, k, v = make(heads), make(kv_heads), make(kv_heads)
    k = k.repeat_interleave(heads // kv_heads, 1)
    v = v.repeat_interleave(heads // kv_heads, 1)
    kernel = torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.FLASH_ATTENTION)
    with kernel:
        return seconds_of(lambda: functional.scaled_dot_product_attention(q, k, v, is_causal=True))


def decode(device, batch, context=1024, tokens=32):
    """Tokens a second of transformers' Llama with random weights in the shape of Llama-3.1-8B."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        hidden_size=4096,
        intermediate_size=14336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
        vocab_size=128256,
        max_position_embeddings=8192,
    )
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(device):
        model = LlamaForCausalLM(config).eval()
    ids = torch.randint(0, config.vocab_size, (batch, context - tokens // 2), device=device)
    with torch.inference_mode():
        out = model(ids, use_cache=True, logits_to_keep=1)
        for rep in range(2):  # the first one warms up
            torch.cuda.synchronize()
            begun = time.perf_counter()
            for _ in range(tokens // 2):
                last = out.logits[:, -1].argmax(-1, keepdim=True)
                out = model(last, past_key_values=out.past_key_values, use_cache=True)
            torch.cuda.synchronize()
            took = time.perf_counter() - begun
    del model, out
    torch.cuda.empty_cache()
    return batch * (tokens // 2) / took


def main():
    device = torch.device(sys.argv[1])
    torch.cuda.set_device(device)
    out = {"version": torch.__version__}
    for heads, dim in ((32, 128), (32, 64)):
        for tokens in (2048, 8192):
            out[f"attention {dim} {tokens}"] = attention(device, heads, 8, dim, tokens)
    for batch in (1, 64):
        try:
            out[f"decode llama-3.1-8b {batch}"] = decode(device, batch)
        except (ImportError, torch.cuda.OutOfMemoryError) as why:
            print(why, file=sys.stderr)
    print(json.dumps(out))


if __name__ == "__main__":
    main()
