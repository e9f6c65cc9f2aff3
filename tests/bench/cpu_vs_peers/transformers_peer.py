"""One round of transformers on the CPU: prefill and decode rates as one JSON object on stdout.

usage: python transformers_peer.py DIRECTORY PROMPT CONTEXT TOKENS BATCHES THREADS
Run by compare.py with an interpreter that has torch and transformers.
"""

import json
import sys
import time

import torch
import transformers


def main():
    directory, prompt, context, tokens, batches, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    torch.manual_seed(1)
    model = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.bfloat16)
    model.eval()

    def random_tokens(rows, columns):
        return torch.randint(0, model.config.vocab_size, (rows, columns))

    out = {"version": transformers.__version__, "decode": {}}
    with torch.inference_mode():
        model(random_tokens(1, 64), logits_to_keep=1)  # warm-up
        ids = random_tokens(1, int(prompt))
        begun = time.perf_counter()
        model(ids, use_cache=True, logits_to_keep=1)
        out["prefill"] = int(prompt) / (time.perf_counter() - begun)
        for batch in map(int, batches.split(",")):
            state = model(random_tokens(batch, int(context)), use_cache=True, logits_to_keep=1)
            last = state.logits[:, -1:].argmax(-1)
            begun = time.perf_counter()
            for _ in range(int(tokens)):
                state = model(last, past_key_values=state.past_key_values, use_cache=True)
                last = state.logits[:, -1:].argmax(-1)
            out["decode"][batch] = batch * int(tokens) / (time.perf_counter() - begun)
    print(json.dumps(out))


if __name__ == "__main__":
    main()
