"""Tokenizers made on the fly that show what one normalizer or pre-tokenizer does to every character.

Their model has a token for every byte and another for every byte that ends a piece, so the ids tell
the exact text after normalization and where it was cut.
"""

import json

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)

from make_tokenizer_goldens import LLAMA3

O200K = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
DEEPSEEK3 = (
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CLIP = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


# Characters that Unicode got in versions 15 to 17: regular expression libraries disagree on them by
# the age of their tables, so the patterns are not compared there. (Normalizers are.)
NEWER = """0897 088f 0c5c 0cdc 0cf3 0ece 1ac1-1aff 1b4e-1b4f 1b7f 1c89-1c8a 20c1 2427-2429 2b96 2ffc-2fff 31e4-31e5 31ef a7cb-a7dc a7f1 fbc3-fbd2
fd90-fdcf 105c0-105ff 10940-1095f 10d40-10d8f 10ec2-10ecf 10ed0-10eff 1123f-11241 11380-113ff 116d0-116ff 11b00-11b0f 11b60-11b6f 11bc0-11bff
11db0-11def 11f00-11f5a 1342f 13440-143ff 16100-1613f 16d40-16d7f 16ea0-16eff 16ff2-16ff6 187f8-187ff 18cff-18dff 1b132 1b155 1cc00-1cef9
1d2c0-1d2d3 1df25-1df2a 1e030-1e08f 1e4d0-1e4ff 1e5d0-1e5ff 1e6c0-1e6ff 1f6d8-1f6dc 1f774-1f77f 1f7d9 1f8b0-1f8ff 1fa54-1faff 1fbcb-1fbfa
2b739-2b73f 2ceae-2ceaf 2ebf0-2ee5d 31350-3347f"""
newer = {
    c
    for part in NEWER.split()
    for first, _, last in [part.partition("-")]
    for c in range(int(first, 16), int(last or first, 16) + 1)
}
# The steps that are pure table look-ups, made equal for every character.
COMPLETE = (
    "nfc",
    "nfd",
    "nfkc",
    "nfkd",
    "lowercase",
    "strip_accents",
    "strip",
    "strip_right",
    "replace_space",
    "whitespace_split",
    "punctuation",
    "digits",
    "whitespace",
    "split_text",
    "no_decoder",
    "metaspace_always",
    "metaspace_first",
    "metaspace_never",
)


def tokenizer(normalizer=None, *steps):
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {t: i for i, t in enumerate([*letters, *(x + "</w>" for x in letters)])}
    t = Tokenizer(models.BPE(vocab=vocab, merges=[], end_of_word_suffix="</w>"))
    if normalizer is not None:
        t.normalizer = normalizer
    t.pre_tokenizer = pre_tokenizers.Sequence(
        [*steps, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    t.decoder = decoders.ByteLevel()
    return t


def split(pattern, behavior="isolated", invert=False):
    return pre_tokenizers.Split(pattern, behavior, invert)


def variants():
    n, p = normalizers, pre_tokenizers
    yield "nfc", tokenizer(n.NFC())
    yield "nfd", tokenizer(n.NFD())
    yield "nfkc", tokenizer(n.NFKC())
    yield "nfkd", tokenizer(n.NFKD())
    yield "lowercase", tokenizer(n.Lowercase())
    yield "strip_accents", tokenizer(n.Sequence([n.NFD(), n.StripAccents()]))
    yield "strip", tokenizer(n.Strip())
    yield "strip_right", tokenizer(n.Strip(left=False, right=True))
    yield "replace_space", tokenizer(n.Replace(Regex(r"\s+"), "_"))
    yield "replace_word", tokenizer(n.Replace(Regex(r"\w+\d\W"), "_"))
    yield "whitespace", tokenizer(None, p.Whitespace())
    yield "whitespace_split", tokenizer(None, p.WhitespaceSplit())
    yield "digits", tokenizer(None, p.Digits(individual_digits=False))
    yield "punctuation", tokenizer(None, p.Punctuation())
    yield "gpt2_pattern", tokenizer(None, p.ByteLevel(add_prefix_space=False))
    yield "llama3_pattern", tokenizer(None, split(Regex(LLAMA3)))
    yield "o200k", tokenizer(None, split(Regex(O200K), "removed", True))
    yield (
        "deepseek3",
        tokenizer(
            None,
            split(Regex(r"\p{N}{1,3}")),
            split(Regex("[一-龥぀-ゟ゠-ヿ]+")),
            split(Regex(DEEPSEEK3)),
        ),
    )
    yield (
        "clip",
        tokenizer(
            n.Sequence([n.NFC(), n.Replace(Regex(r"\s+"), " "), n.Lowercase()]),
            split(Regex(CLIP), "removed", True),
        ),
    )
    yield "word_class", tokenizer(None, split(Regex(r"[\w'-]+|[^\w\s]|\h+\b")))
    for behavior in (
        "removed",
        "isolated",
        "merged_with_previous",
        "merged_with_next",
        "contiguous",
    ):
        for invert in (False, True):
            yield (
                f"split_{behavior}_{invert}",
                tokenizer(None, split(Regex(r"\p{L}+|a1|\s"), behavior, invert)),
            )
    yield "split_text", tokenizer(None, split("a", "merged_with_previous"))
    for scheme in ("always", "first", "never"):
        t = tokenizer(None, p.Metaspace(prepend_scheme=scheme))
        t.add_special_tokens([AddedToken("<s>"), AddedToken("<mask>", lstrip=True)])
        t.add_tokens([AddedToken("a1", single_word=True), AddedToken("x", rstrip=True)])
        yield f"metaspace_{scheme}", t
    t = tokenizer(n.Lowercase(), p.Whitespace())
    t.add_special_tokens([AddedToken("<s>"), AddedToken("</s>")])
    t.post_processor = processors.RobertaProcessing(
        ("</s>", t.token_to_id("</s>")), ("<s>", t.token_to_id("<s>"))
    )
    yield "roberta", t
    state = json.loads(tokenizer().to_str())
    state["decoder"] = None
    yield "no_decoder", Tokenizer.from_str(json.dumps(state))


def every_character(name):
    """Every assigned character of the planes in use (a sample of Han and Hangul, which are alike) in
    small texts: among its neighbours, and between letters, digits, marks and spaces."""
    sampled = [
        *range(0x3400, 0x4DC0, 64),
        *range(0x4E00, 0xA000, 64),
        *range(0xAC00, 0xD7A4, 16),
        *range(0x20000, 0x323B0, 256),
    ]
    planes = [
        *range(0x3400),
        *range(0x4DC0, 0x4E00),
        *range(0xA000, 0xAC00),
        *sampled,
        *range(0xD7B0, 0xD800),
        *range(0xE000, 0xE010),
        *range(0xF900, 0x18D00, 1),
        *range(0x1AFF0, 0x20000),
        *range(0xE0000, 0xE0200),
        0xF0000,
        0x10FFFF,
    ]
    assigned = [
        chr(c) for c in planes if not 0xD800 <= c < 0xE000 and (name in COMPLETE or c not in newer)
    ]
    for begin in range(0, len(assigned), 24):
        block = assigned[begin : begin + 24]
        yield "".join(block)
        yield "".join(f"a{c}1{c}\u0323\u0301 {c}x" for c in block)
        yield block[0] + " x " + block[-1]
