"""Measures what a draft model gains: texts of one request at a time, in tokens per second, without
guesses, with guesses from earlier text, and with those of a draft model; greedy, and drawn at a
temperature of 1. The texts have to be the same every time.

usage: python3 tests/bench/draft_bench.py path/to/troupe DIRECTORY [--gigabytes 1.2] [--rounds 3]

There is no trained pair of models here, so the large model has random weights in the shapes of
Llama-3.2-1B (coldstart_bench.py makes it) and the small one is itself in 4 bits (Q4_0, made with the
`gguf` package): right as often as rounding leaves it, at a quarter of the bytes. `right` is how many
of the guesses were. Ways take turns; medians over the rounds, with minimum and maximum.
"""

import argparse
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import time

from coldstart_bench import make_model
from serve_bench import Server, spread

PROMPTS = ["Tell me a story about a fox.", "The weather in the mountains", "One, two, three,"]
TOOL = pathlib.Path(__file__).resolve().parents[2] / "tools" / "hf_to_gguf.py"


def guesses(server):
    text = server.get("/metrics")[1]
    counts = {"right": 0.0, "wrong": 0.0}
    for result, value in re.findall(
        r'^troupe_draft_tokens_total{.*result="(\w+)".*} (\S+)$', text, re.MULTILINE
    ):
        counts[result] += float(value)
    return counts


def write_text(server, model, prompt, temperature, tokens):
    """Seconds a token, beyond the first, and the text."""
    body = {
        "model": model,
        "prompt": prompt,
        "temperature": temperature,
        "seed": 11,
        "max_tokens": tokens,
        "ignore_eos": True,
    }
    begun = time.perf_counter()
    answer = json.loads(server.post("/v1/completions", body)[1])
    seconds = time.perf_counter() - begun
    return seconds / answer["usage"]["completion_tokens"], answer["choices"][0]["text"]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("binary")
    parser.add_argument("directory", type=pathlib.Path)
    parser.add_argument("--gigabytes", type=float, default=1.2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=64)
    options = parser.parse_args()
    model = options.directory / "coldstart-model"
    make_model(model, options.gigabytes)
    small = options.directory / "coldstart-draft.gguf"
    if not small.exists():
        subprocess.run([sys.executable, TOOL, model, small, "--type", "Q4_0"], check=True)
    os.environ["XDG_CACHE_HOME"] = str(options.directory / "coldstart-cache")

    ways = {
        "no guesses": {"TROUPE_ENGINE_DRAFT_TOKENS_MAX": "0"},
        "from earlier text": {},
        "a draft model": {"TROUPE_ENGINE_DRAFT_MODEL": str(small)},
    }
    rates, share, texts = {}, {}, {}
    for _ in range(options.rounds):
        for way, settings in ways.items():
            for name in ("TROUPE_ENGINE_DRAFT_TOKENS_MAX", "TROUPE_ENGINE_DRAFT_MODEL"):
                os.environ.pop(name, None)
            os.environ.update(settings)
            with Server(options.binary, [model]) as server:
                write_text(server, model.name, PROMPTS[0], 0, 4)
                for temperature in (0, 1):
                    before = guesses(server)
                    taken = []
                    for prompt in PROMPTS:
                        seconds, text = write_text(
                            server, model.name, prompt, temperature, options.tokens
                        )
                        taken.append(seconds)
                        expected = texts.setdefault((prompt, temperature), text)
                        assert text == expected, f"{way} changed the text after {prompt!r}"
                    time.sleep(0.5)  # the worker reports its counters now and then
                    after = guesses(server)
                    made = {key: after[key] - before[key] for key in after}
                    rates.setdefault((way, temperature), []).append(1 / statistics.median(taken))
                    if sum(made.values()):
                        share[way, temperature] = made["right"] / sum(made.values())
    print("| guesses | temperature | tokens/s | of none | right |")
    print("| --- | --- | --- | --- | --- |")
    for (way, temperature), values in rates.items():
        ratios = [a / b for a, b in zip(values, rates["no guesses", temperature])]
        right = f"{share[way, temperature]:.0%}" if (way, temperature) in share else ""
        print(f"| {way} | {temperature} | {spread(values, 1, 1)} | {spread(ratios)} | {right} |")


if __name__ == "__main__":
    main()
