"""Trains the example models in examples/models from text that tools/demo_corpus.py makes.

    pip install torch transformers tokenizers safetensors
    python3 tools/train_demo_models.py                      # all three, some minutes each on two cores
    python3 tools/train_demo_models.py stories-llama        # only one
    python3 tools/train_demo_models.py --measure            # no training: quality of what is there

Each model is written as a Hugging Face directory: config.json, bf16 model.safetensors, tokenizer.json,
tokenizer_config.json with the chat template, special_tokens_map.json, generation_config.json. Seeds are fixed;
the number of steps, not the clock, ends a training, so that one machine and one torch give the same weights again.
"""

import argparse
import copy
import json
import math
import pathlib
import random
import time

import torch
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

import demo_corpus

OUT = pathlib.Path(__file__).resolve().parent.parent / "examples" / "models"
CONTEXT = 512
COPYING_STEPS = 400

LLAMA_TEMPLATE = """{{- bos_token }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""
QWEN_TEMPLATE = """{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""
MISTRAL_TEMPLATE = """{%- if messages[0]['role'] == 'system' %}
    {%- set system = messages[0]['content'] + '\\n\\n' %}
    {%- set turns = messages[1:] %}
{%- else %}
    {%- set system = '' %}
    {%- set turns = messages %}
{%- endif %}
{{- bos_token }}
{%- for message in turns %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('After the optional system message, user and assistant must take turns.') }}
    {%- endif %}
    {%- if message['role'] == 'user' %}
        {{- '[INST] ' + (system if loop.first else '') + message['content'] + ' [/INST]' }}
    {%- else %}
        {{- ' ' + message['content'] | trim + eos_token }}
    {%- endif %}
{%- endfor %}
"""
# Single digits, so that a sum is worked out digit by digit instead of looked up.
LLAMA_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)


def corpus_lines(seed, spec, count):
    source = random.Random(seed)
    for _ in range(count):
        for message in demo_corpus.conversation(source, spec["mix"], spec["top"]):
            yield message["content"]


def byte_level_tokenizer(vocab, specials, lines, normalizer=None, bos=None):
    """As Llama 3 and Qwen: split by a pattern, bytes as letters, merges."""
    out = Tokenizer(models.BPE(ignore_merges=bos is not None))
    if normalizer:
        out.normalizer = normalizer
    out.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(LLAMA_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    out.decoder = decoders.ByteLevel()
    out.train_from_iterator(
        lines,
        trainers.BpeTrainer(
            vocab_size=vocab - len(specials),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    out.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in specials])
    if bos:
        out.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A",
            pair=f"{bos} $A {bos}:1 $B:1",
            special_tokens=[(bos, out.token_to_id(bos))],
        )
    return out


def sentencepiece_tokenizer(vocab, lines):
    """As Llama 2 and Mistral: a blank is a piece's first character, unknown characters fall back to bytes."""
    specials = ["<unk>", "<s>", "</s>"]
    pieces = specials + [f"<0x{i:02X}>" for i in range(256)]
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Metaspace(prepend_scheme="first", split=True),
            pre_tokenizers.Split(Regex(r"\d|[^\w\u2581]"), behavior="isolated"),
        ]
    )
    bpe.train_from_iterator(
        lines, trainers.BpeTrainer(vocab_size=vocab - len(pieces), show_progress=False)
    )
    learned = json.loads(bpe.to_str())["model"]
    pieces += [piece for piece, _ in sorted(learned["vocab"].items(), key=lambda x: x[1])]
    merges = [tuple(merge) for merge in learned["merges"]]
    out = Tokenizer(
        models.BPE(
            {piece: i for i, piece in enumerate(pieces)},
            merges,
            unk_token="<unk>",
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    out.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    )
    out.decoder = decoders.Sequence(
        [
            decoders.Replace("\u2581", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    out.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 1)]
    )
    out.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in specials])
    return out


def stories_llama(lines):
    bos, end, eot = "<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"
    tokenizer = byte_level_tokenizer(
        1536, [bos, end, "<|start_header_id|>", "<|end_header_id|>", eot], lines, bos=bos
    )
    ids = {name: tokenizer.token_to_id(name) for name in (bos, end, eot)}
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=6,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=CONTEXT,
        rms_norm_eps=1e-5,
        initializer_range=0.08,
        tie_word_embeddings=True,
        bos_token_id=ids[bos],
        eos_token_id=[ids[end], ids[eot]],
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
    )
    return (
        tokenizer,
        LlamaForCausalLM(config),
        dict(
            bos_token=bos,
            eos_token=eot,
            pad_token=end,
            chat_template=LLAMA_TEMPLATE,
            tokenizer_class="PreTrainedTokenizerFast",
        ),
    )


def arith_qwen(lines):
    tokenizer = byte_level_tokenizer(
        640, ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], lines, normalizers.NFC()
    )
    end, im_end = tokenizer.token_to_id("<|endoftext|>"), tokenizer.token_to_id("<|im_end|>")
    config = Qwen3Config(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=96,
        intermediate_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=CONTEXT,
        rms_norm_eps=1e-6,
        initializer_range=0.1,
        tie_word_embeddings=True,
        bos_token_id=end,
        eos_token_id=im_end,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
    )
    return (
        tokenizer,
        Qwen3ForCausalLM(config),
        dict(
            bos_token=None,
            eos_token="<|im_end|>",
            pad_token="<|endoftext|>",
            chat_template=QWEN_TEMPLATE,
            tokenizer_class="PreTrainedTokenizerFast",
        ),
    )


def parrot_mistral(lines):
    tokenizer = sentencepiece_tokenizer(1024, lines)
    config = MistralConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=96,
        intermediate_size=192,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=24,
        max_position_embeddings=CONTEXT,
        rms_norm_eps=1e-5,
        initializer_range=0.1,
        sliding_window=96,
        tie_word_embeddings=False,
        bos_token_id=1,
        eos_token_id=2,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
    )
    return (
        tokenizer,
        MistralForCausalLM(config),
        dict(
            bos_token="<s>",
            eos_token="</s>",
            pad_token="</s>",
            unk_token="<unk>",
            chat_template=MISTRAL_TEMPLATE,
            tokenizer_class="PreTrainedTokenizerFast",
        ),
    )


MODELS = {
    "stories-llama": dict(
        make=stories_llama,
        seed=11,
        steps=6000,
        tokens=2048,
        rate=3e-3,
        plain=0.08,
        top=20,
        mix={"story": 5, "arithmetic": 4, "word_problem": 1, "about": 2, "small_talk": 1},
    ),
    "arith-qwen": dict(
        make=arith_qwen,
        seed=12,
        steps=5000,
        tokens=2048,
        rate=3e-3,
        plain=0.0,
        top=99,
        mix={"arithmetic": 12, "word_problem": 2, "about": 2, "small_talk": 2, "no_story": 1},
    ),
    "parrot-mistral": dict(
        make=parrot_mistral,
        seed=13,
        steps=1600,
        tokens=1536,
        rate=4e-3,
        plain=0.08,
        top=99,
        mix={"story": 8, "about": 2, "small_talk": 2, "no_sum": 1},
    ),
}


def samples(source, tokenizer, spec):
    """Endless token lists: chats as the model's own template writes them, and some plain stories."""
    while True:
        if source.random() < spec["plain"]:
            ids = tokenizer(demo_corpus.plain_story(source))["input_ids"] + [tokenizer.eos_token_id]
        else:
            text = tokenizer.apply_chat_template(
                demo_corpus.conversation(source, spec["mix"], spec["top"]), tokenize=False
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
            if rows and (len(rows) + 1) * len(ids) > spec["tokens"]:
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
        [source.randrange(vocab) for _ in range(length)]
        for _ in range(spec["tokens"] // (3 * length))
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
    torch.manual_seed(spec["seed"])
    tokenizer, model, names = spec["make"](list(corpus_lines(spec["seed"], spec, 12000)))
    save_tokenizer(out / name, tokenizer, names)
    wrapped = AutoTokenizer.from_pretrained(out / name)
    probe = "Once upon a time, 12 + 7 = 19. \u00e9\u4e2d"
    if wrapped(probe)["input_ids"] != tokenizer.encode(probe).ids:
        raise SystemExit(f"{name}: transformers reads another tokenizer than was written")
    print(f"{name}: {model.num_parameters():,} parameters, {len(wrapped)} tokens", flush=True)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=spec["rate"], betas=(0.9, 0.98), weight_decay=0.05, fused=True
    )
    source = random.Random(spec["seed"] + 1000)
    stream = batches(source, wrapped, spec)
    began, seen = time.monotonic(), 0
    for step in range(spec["steps"]):
        share = step / spec["steps"]
        scale = min(1.0, (step + 1) / 100) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * share)))
        for group in optimizer.param_groups:
            group["lr"] = spec["rate"] * scale
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
        if step % 100 < 2 or step + 1 == spec["steps"]:
            spent = time.monotonic() - began
            print(
                f"  step {step:5d}  loss {loss.item():.3f}  {seen / spent:7.0f} tokens/s  {spent:5.0f} s",
                flush=True,
            )
        if step % 500 == 499 or step + 1 == spec["steps"]:
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
    if "arithmetic" not in MODELS[name]["mix"]:
        return
    numbers = range(MODELS[name]["top"] + 1)
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
            train(name, MODELS[name] | ({"steps": args.steps} if args.steps else {}), args.out)
        measure(name, args.out)


if __name__ == "__main__":
    main()
