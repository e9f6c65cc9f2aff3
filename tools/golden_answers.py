"""What transformers answers with a model, as the golden files of the engine's tests keep it."""

import sys

import torch
from safetensors.torch import save_file

PROMPT_TOKENS = 24
GREEDY_TOKENS = 64


def save_expected(model, seed, out):
    """Writes `prompt`, `logits` and `greedy` of a float32 model to the safetensors file `out`.

    The prompt is drawn from `seed`. Returns the smallest gap between the best two tokens of a
    greedy step, and how many different tokens the greedy text has.
    """
    gen = torch.Generator().manual_seed(seed)
    prompt = torch.randint(3, model.config.vocab_size, (1, PROMPT_TOKENS), generator=gen)
    with torch.no_grad():
        logits = model(prompt).logits[0].float()
        tokens, gap = prompt, float("inf")
        for _ in range(GREEDY_TOKENS):  # no cache: the whole text anew for each token
            best = model(tokens).logits[0, -1].topk(2)
            gap = min(gap, (best.values[0] - best.values[1]).item())
            tokens = torch.cat([tokens, best.indices[:1][None]], dim=1)
    greedy = tokens[0, PROMPT_TOKENS:].contiguous()
    save_file({"prompt": prompt[0], "logits": logits.contiguous(), "greedy": greedy}, out)
    return gap, len(set(greedy.tolist()))


def take_first_clear_seed(name, attempt):
    """Calls attempt(seed), which returns what save_expected does, until the text is good.

    It is good if it is varied and no choice in it is close, so that a difference in rounding
    cannot change a token.
    """
    for seed in range(200):
        gap, distinct = attempt(seed)
        if gap > 0.01 and distinct >= 12:
            text = f"{name}: seed {seed}, smallest gap {gap:.3f}, {distinct} distinct tokens"
            print(text, flush=True)
            return
    sys.exit(f"{name}: no seed gives a clear and varied text")
