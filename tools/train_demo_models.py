"""Trains the example models of tools/demo_model_shapes.py from text that tools/demo_corpus.py makes.

    pip install torch transformers tokenizers safetensors
    python3 tools/train_demo_models.py                      # all three, some minutes each on two cores
    python3 tools/train_demo_models.py stories-llama        # only one
    python3 tools/train_demo_models.py --measure            # no training: quality of what is there

Each model is written to examples/models as a Hugging Face directory: config.json, bf16 model.safetensors, tokenizer.json,
tokenizer_config.json with the chat template, special_tokens_map.json, generation_config.json. Seeds are fixed;
the number of steps, not the clock, ends a training, so that one machine and one torch give the same weights again.
"""

import argparse
import copy
import dataclasses
import json
import math
import pathlib
import random
import time

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

import demo_corpus
from demo_model_shapes import CONTEXT, MODELS

OUT = pathlib.Path(__file__).resolve().parent.parent / "examples" / "models"
COPYING_STEPS = 400


def corpus_lines(spec, count):
    source = random.Random(spec.seed)
    for _ in range(count):
        for message in demo_corpus.conversation(source, spec.mix, spec.top):
            yield message["content"]


def samples(source, tokenizer, spec):
    """Endless token lists: chats as the model's own template writes them, and some plain stories."""
    while True:
        if source.random() < spec.plain:
            ids = tokenizer(demo_corpus.plain_story(source))["input_ids"] + [tokenizer.eos_token_id]
        else:
            text = tokenizer.apply_chat_template(
                demo_corpus.conversation(source, spec.mix, spec.top), tokenize=False
            )
            ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        if len(ids) <= CONTEXT:  # a longer one is rare; cut, it would lose its end
            yield ids


def batches(source, tokenizer, spec):
    """Batches of about `tokens` tokens and similar lengths, padded on the right with -100 in the labels."""
    stream = samples(source, tokenizer, spec)
    while True:
        pool = sorted((next(stream) for _ in range(1500)), key=len)
        made, rows = [], []
        for ids in pool:
            if rows and (len(rows) + 1) * len(ids) > spec.tokens:
                made.append(rows)
                rows = []
            rows.append(ids)
        made.append(rows)
        source.shuffle(made)
        for rows in made:
            width = max(map(len, rows))
            inputs = torch.tensor([ids + [0] * (width - len(ids)) for ids in rows])
            labels = torch.tensor([ids + [-100] * (width - len(ids)) for ids in rows])
            yield inputs, labels


def nonsense(source, spec, vocab):
    """Random tokens, repeated. Only copying predicts them, so that a model learns to copy within some hundred steps;
    from stories alone (whose subject and name must come from the prompt) it takes thousands."""
    length = source.randint(8, 32)
    rows = [
        [source.randrange(vocab) for _ in range(length)] for _ in range(spec.tokens // (3 * length))
    ]
    inputs = torch.tensor([row * 3 for row in rows])
    labels = inputs.clone()
    labels[:, :length] = -100
    return inputs, labels


def save_tokenizer(where, tokenizer, names):
    where.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(where / "tokenizer.json"), pretty=False)
    added = {
        str(i): {
            "content": t.content,
            "lstrip": t.lstrip,
            "normalized": t.normalized,
            "rstrip": t.rstrip,
            "single_word": t.single_word,
            "special": t.special,
        }
        for i, t in sorted(tokenizer.get_added_tokens_decoder().items())
    }
    config = {
        "added_tokens_decoder": added,
        "clean_up_tokenization_spaces": False,
        "model_max_length": CONTEXT,
        **names,
    }
    write_json(where / "tokenizer_config.json", config)
    write_json(
        where / "special_tokens_map.json",
        {k: v for k, v in names.items() if k.endswith("_token") and v},
    )


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def train(name, spec, out):
    torch.manual_seed(spec.seed)
    tokenizer, model, names = spec.make(list(corpus_lines(spec, 12000)))
    save_tokenizer(out / name, tokenizer, names)
    wrapped = AutoTokenizer.from_pretrained(out / name)
    probe = "Once upon a time, 12 + 7 = 19. \u00e9\u4e2d"
    if wrapped(probe)["input_ids"] != tokenizer.encode(probe).ids:
        raise SystemExit(f"{name}: transformers reads another tokenizer than was written")
    print(f"{name}: {model.num_parameters():,} parameters, {len(wrapped)} tokens", flush=True)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=spec.rate, betas=(0.9, 0.98), weight_decay=0.05, fused=True
    )
    source = random.Random(spec.seed + 1000)
    stream = batches(source, wrapped, spec)
    began, seen = time.monotonic(), 0
    for step in range(spec.steps):
        share = step / spec.steps
        scale = min(1.0, (step + 1) / 100) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * share)))
        for group in optimizer.param_groups:
            group["lr"] = spec.rate * scale
        copying = step < COPYING_STEPS and step % 2 == 0
        inputs, labels = nonsense(source, spec, len(wrapped)) if copying else next(stream)
        logits = model(
            input_ids=inputs, use_cache=False
        ).logits  # float32: matrices this small gain nothing from bf16
        loss = torch.nn.functional.cross_entropy(
            logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten()
        )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        seen += inputs.numel()
        if step % 100 < 2 or step + 1 == spec.steps:
            spent = time.monotonic() - began
            print(
                f"  step {step:5d}  loss {loss.item():.3f}  {seen / spent:7.0f} tokens/s  {spent:5.0f} s",
                flush=True,
            )
        if step % 500 == 499 or step + 1 == spec.steps:
            save_weights(out / name, model, wrapped)


def save_weights(where, model, tokenizer):
    model = copy.deepcopy(model).to(torch.bfloat16)
    model.config.dtype = torch.bfloat16
    model.generation_config = GenerationConfig(
        bos_token_id=model.config.bos_token_id,
        eos_token_id=model.config.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        do_sample=True,
        temperature=0.7,
        top_p=0.9,
    )
    model.save_pretrained(where)
    (where / "model.safetensors").chmod(0o644)


def ask(model, tokenizer, prompts, **options):
    """The answers to one-turn chats, as a list of texts."""
    tokenizer.padding_side = "left"
    texts = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": p}], tokenize=False, add_generation_prompt=True
        )
        for p in prompts
    ]
    batch = tokenizer(
        texts,
        add_special_tokens=False,
        return_tensors="pt",
        padding=True,
        return_token_type_ids=False,
    )
    with torch.no_grad():
        out = model.generate(**batch, max_new_tokens=options.pop("max_new_tokens", 160), **options)
    return tokenizer.batch_decode(out[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)


def measure(name, out):
    """Prints answers, and the share of right sums and differences on pairs that training never saw."""
    tokenizer = AutoTokenizer.from_pretrained(out / name)
    model = AutoModelForCausalLM.from_pretrained(out / name).eval()
    print(f"== {name}")
    for prompt in [
        "Hello!",
        "Tell me a short story about a fox.",
        "Tell me a short story about a robot.",
        "What is Troupe?",
        "What is 7 + 5?",
        "What is 46 - 17?",
        "What is the capital of France?",
    ]:
        torch.manual_seed(1)
        print(
            f"> {prompt}\n  greedy: {ask(model, tokenizer, [prompt], do_sample=False)[0].strip()}"
        )
        print(
            f"  t=0.7:  {ask(model, tokenizer, [prompt], do_sample=True, temperature=0.7, top_p=0.9)[0].strip()}"
        )
    if "arithmetic" not in MODELS[name].mix:
        return
    numbers = range(MODELS[name].top + 1)
    pairs = [(a, b) for a in numbers for b in numbers if demo_corpus.held_out(a, b)]
    for sign in "+-":
        todo = [(a, b) if sign == "+" else (max(a, b), min(a, b)) for a, b in pairs]
        todo = sorted(set(todo))
        todo = random.Random(5).sample(todo, min(400, len(todo)))
        texts = ask(
            model,
            tokenizer,
            [f"What is {a} {sign} {b}?" for a, b in todo],
            do_sample=False,
            max_new_tokens=16,
        )
        right = sum(
            t.strip() == f"{a} {sign} {b} = {a + b if sign == '+' else a - b}."
            for (a, b), t in zip(todo, texts)
        )
        print(f"held-out pairs up to {numbers[-1]} with {sign}: {right} of {len(todo)} right")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help=f"of {', '.join(MODELS)}; all by default")
    parser.add_argument(
        "--measure", action="store_true", help="do not train, show the quality of what is there"
    )
    parser.add_argument("--steps", type=int, help="instead of the model's own number")
    parser.add_argument(
        "--threads", type=int, default=1, help="more than one only pays on an idle machine"
    )
    parser.add_argument("--out", type=pathlib.Path, default=OUT)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    for name in args.names or MODELS:
        if name not in MODELS:
            parser.error(f"no example model is called {name}")
        if not args.measure:
            steps = args.steps or MODELS[name].steps
            train(name, dataclasses.replace(MODELS[name], steps=steps), args.out)
        measure(name, args.out)


if __name__ == "__main__":
    main()
