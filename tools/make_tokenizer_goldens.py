"""Trains one small tokenizer per family, with the family's own normalizer, pre-tokenizer,
post-processor, decoder and special tokens, and records what the `tokenizers` package makes of a few
hundred adversarial strings. Writes tests/golden/tokenizers/<family>.json and <family>.cases.json.

usage: pip install tokenizers && python3 tools/make_tokenizer_goldens.py
"""

import json
import pathlib
import random

import tokenizers
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

OUT = pathlib.Path(__file__).resolve().parents[1] / "tests" / "golden" / "tokenizers"
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")

WORDS = """time year people way day man thing woman life child world school state family student group country problem hand
part place case week company system program question work government number night point home water room mother area
money story fact month lot right study book eye job word business issue side kind head house service friend father power
hour game line end member law car city community name president team minute idea body information back parent face
others level office door health person art war history party result change morning reason research girl guy moment air
teacher force education walked quickly thinking about running models serving tokens scheduler memory don't we'll they're
I'm she'd isn't 2024 1,234.56 3.14159 internationalization straightforward""".split()
FOREIGN = [
    "Übergrößenträger",
    "naïve café",
    "привет мир",
    "γειά σου",
    "你好，世界",
    "こんにちは",
    "안녕하세요",
    "مرحبا بالعالم",
    "नमस्ते दुनिया",
    "สวัสดีชาวโลก",
    "שלום",
    "👩‍👩‍👧‍👦",
    "🙂🙃",
    "ﬁne ﬂow",
    "Å Å",
    "e\u0301 é",
    "①②③",
    "Ⅷ",
    "½",
]


def corpus():
    pick = random.Random(7)
    for _ in range(4000):
        words = [pick.choice(WORDS) for _ in range(pick.randint(4, 14))]
        if pick.random() < 0.15:
            words.insert(pick.randrange(len(words)), pick.choice(FOREIGN))
        yield (
            words[0].capitalize()
            + " "
            + " ".join(words[1:])
            + pick.choice([".", "!", "?", "...", "\n", " (so)."])
        )
    for i in range(300):
        yield f"def f_{i}(x):\n    return x + {i}  # {pick.choice(WORDS)}\n"


def byte_level(pattern, prefix=False):
    if pattern is None:
        return pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated", False),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def special(*texts):
    return [AddedToken(t, special=True, normalized=False) for t in texts]


def train(tokenizer, size, specials, alphabet=()):
    tokenizer.train_from_iterator(
        corpus(),
        trainers.BpeTrainer(
            vocab_size=size,
            special_tokens=specials,
            initial_alphabet=list(alphabet),
            show_progress=False,
        ),
    )
    return tokenizer


def byte_family(pattern, normalizer, specials, size=900, prefix=False):
    t = Tokenizer(models.BPE())
    t.normalizer = normalizer
    t.pre_tokenizer = byte_level(pattern, prefix)
    t.decoder = decoders.ByteLevel()
    return train(t, size, specials, pre_tokenizers.ByteLevel.alphabet())


def gpt2():
    t = byte_family(None, None, special("<|endoftext|>"))
    t.post_processor = processors.ByteLevel(trim_offsets=False)
    return t


def gpt2_prefix():
    return byte_family(None, None, special("<|endoftext|>"), prefix=True)


def llama3():
    t = byte_family(
        LLAMA3,
        None,
        special(
            "<|begin_of_text|>",
            "<|end_of_text|>",
            "<|start_header_id|>",
            "<|end_header_id|>",
            "<|eot_id|>",
        ),
    )
    t.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(
                single="<|begin_of_text|> $A",
                pair="<|begin_of_text|> $A <|begin_of_text|> $B",
                special_tokens=[("<|begin_of_text|>", t.token_to_id("<|begin_of_text|>"))],
            ),
        ]
    )
    return edit(t, lambda j: j["model"].update(ignore_merges=True))


def qwen2():
    t = byte_family(
        QWEN2, normalizers.NFC(), special("<|endoftext|>", "<|im_start|>", "<|im_end|>")
    )
    t.add_tokens(
        [
            AddedToken("<tool_call>", normalized=False),
            AddedToken("</tool_call>", normalized=False),
            AddedToken("<think>", normalized=False),
            AddedToken("</think>", normalized=False),
        ]
    )
    return t


def sentencepiece(metaspace, specials=("<unk>", "<s>", "</s>"), size=900):
    t = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    marks = [f"<0x{b:02X}>" for b in range(256)]
    if metaspace:
        t.pre_tokenizer = metaspace
        t.decoder = decoders.Sequence(
            [
                decoders.Replace("▁", " "),
                decoders.ByteFallback(),
                decoders.Fuse(),
                decoders.Strip(" ", 1, 0),
            ]
        )
    else:  # Llama 2 and Mistral v1 as converted from SentencePiece
        t.normalizer = normalizers.Sequence(
            [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        )
        t.decoder = decoders.Sequence(
            [
                decoders.Replace("▁", " "),
                decoders.ByteFallback(),
                decoders.Fuse(),
                decoders.Strip(" ", 1, 0),
            ]
        )
    trained = Tokenizer(
        models.BPE(unk_token="<unk>")
    )  # words are learnt apart, as SentencePiece does
    trained.pre_tokenizer = pre_tokenizers.Metaspace()
    trained.train_from_iterator(
        corpus(),
        trainers.BpeTrainer(
            vocab_size=size,
            special_tokens=[*special(*specials), *marks],
            limit_alphabet=90,
            show_progress=False,
        ),
    )
    state = json.loads(trained.to_str())
    state["added_tokens"] = [a for a in state["added_tokens"] if a["content"] in specials]
    for key in ("normalizer", "pre_tokenizer", "decoder"):
        state[key] = json.loads(t.to_str())[key]
    state["model"].update(fuse_unk=True, byte_fallback=True)
    t = Tokenizer.from_str(json.dumps(state))
    t.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", t.token_to_id("<s>"))]
    )
    return t


def llama2():
    return sentencepiece(None)


def mistral3():
    t = sentencepiece(pre_tokenizers.Metaspace(prepend_scheme="first", split=False))
    t.add_special_tokens(special("[INST]", "[/INST]", "[TOOL_CALLS]"))
    return t


def metaspace_always():
    t = sentencepiece(pre_tokenizers.Metaspace(prepend_scheme="always", split=True))
    t.decoder = decoders.Metaspace()
    return t


def gemma():
    t = sentencepiece(None, ("<pad>", "<eos>", "<s>", "<unk>"))
    t.normalizer = normalizers.Replace(" ", "▁")
    t.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous", False)
    t.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    t.add_special_tokens(special("<start_of_turn>", "<end_of_turn>"))
    return t


def odd():
    """Every rare option at once."""
    t = Tokenizer(models.BPE(unk_token="[UNK]"))
    t.normalizer = normalizers.Sequence(
        [
            normalizers.NFKC(),
            normalizers.Strip(left=True, right=False),
            normalizers.Lowercase(),
            normalizers.Replace(Regex(r"[’`]"), "'"),
        ]
    )
    t.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.Punctuation("contiguous"),
            pre_tokenizers.Split(Regex("(?:re|un)"), "merged_with_next", False),
        ]
    )
    train(t, 700, special("[UNK]"))
    t.add_tokens(
        [
            AddedToken("LEFT", lstrip=True),
            AddedToken("right", rstrip=True),
            AddedToken("both", lstrip=True, rstrip=True),
            AddedToken("word", single_word=True),
            AddedToken("Norm\u00adal", normalized=True),
            AddedToken("Straße", normalized=True),
            AddedToken("aa", normalized=False),
            AddedToken("aaa", normalized=False),
        ]
    )
    t.add_special_tokens(
        [
            AddedToken("<mask>", lstrip=True, special=True, normalized=False),
            AddedToken("<sep>", special=True),
        ]
    )
    t.decoder = decoders.Fuse()
    return t


def edit(tokenizer, change):
    state = json.loads(tokenizer.to_str())
    change(state)
    return Tokenizer.from_str(json.dumps(state))


FAMILIES = {
    f.__name__: f
    for f in (gpt2, gpt2_prefix, llama3, qwen2, llama2, mistral3, metaspace_always, gemma, odd)
}


def adversarial(tokenizer, count, seed):
    """Strings of all planes, control characters, long runs, and every added token in odd places."""
    pick = random.Random(seed)
    added = [t.content for t in tokenizer.get_added_tokens_decoder().values()] or ["<s>"]
    spaces = [
        " ",
        "  ",
        "\n",
        "\r\n",
        "\t",
        "\u00a0",
        "\u3000",
        "\u2028",
        "\u180e",
        "\u200b",
        "\x85",
        "\n\n",
        " \n ",
        "▁",
        "▁▁",
    ]
    contractions = ["'s", "'S", "'ſ", "'t", "'RE", "'ve", "'ll", "'LL", "’s"]

    def character():
        plane = pick.random()
        if plane < 0.3:
            return chr(pick.randrange(0x20, 0x7F))
        if plane < 0.35:
            return chr(pick.randrange(0, 0x20))
        if plane < 0.6:
            return chr(pick.randrange(0x80, 0x3000))
        if plane < 0.9:
            c = pick.randrange(0x3000, 0x10000)
            return chr(c if not 0xD800 <= c < 0xE000 else 0x4E00)
        return chr(pick.randrange(0x10000, 0x110000))

    def piece():
        kind = pick.random()
        if kind < 0.3:
            return pick.choice(WORDS)
        if kind < 0.45:
            return pick.choice(spaces)
        if kind < 0.55:
            return pick.choice(added)
        if kind < 0.6:
            return pick.choice(FOREIGN)
        if kind < 0.65:
            return pick.choice(contractions)
        if kind < 0.7:
            return str(pick.randrange(10 ** pick.randrange(1, 12)))
        if kind < 0.75:
            return character() * pick.randrange(2, 60)
        if kind < 0.8:
            token = pick.choice(added)
            return token[: pick.randrange(len(token) + 1)]
        return "".join(character() for _ in range(pick.randrange(1, 6)))

    yield from [
        "",
        " ",
        "  ",
        "\n",
        "a",
        " a",
        "a ",
        *added,
        *(" " + a for a in added),
        *(a + " " for a in added),
    ]
    for _ in range(count):
        yield pick.choice(["", " "]).join(piece() for _ in range(pick.randrange(1, 9)))


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    for name, build in FAMILIES.items():
        tokenizer = build()
        (OUT / f"{name}.json").write_text(tokenizer.to_str(), encoding="utf-8")
        cases = []
        for text in adversarial(tokenizer, 120, 11):
            ids = tokenizer.encode(text).ids
            cases.append(
                {
                    "text": text,
                    "ids": ids,
                    "plain": tokenizer.encode(text, add_special_tokens=False).ids,
                    "decoded": tokenizer.decode(ids),
                    "verbatim": tokenizer.decode(ids, skip_special_tokens=False),
                }
            )
        (OUT / f"{name}.cases.json").write_text(
            json.dumps(cases, ensure_ascii=True, separators=(",", ":")), encoding="utf-8"
        )
        print(
            f"{name}: {tokenizer.get_vocab_size()} tokens, {len(cases)} cases (tokenizers {tokenizers.__version__})"
        )


if __name__ == "__main__":
    main()
