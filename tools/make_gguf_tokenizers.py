#!/usr/bin/env python3
"""Makes tests/golden/gguf_tokenizers: small tokenizers as GGUF metadata, without tensors.

    pip install gguf sentencepiece tokenizers transformers
    tools/make_gguf_tokenizers.py

gpt2, llama3 and qwen2 are those of tests/golden/tokenizers, whose cases hold for them. The others
come with cases of their own: what the `tokenizers` package gives. sentencepiece.gguf is a vocabulary
that SentencePiece trained; its tokenizers-package twin has the merges that transformers makes of the
scores, and both are checked against each other here.
"""

import io
import json
import pathlib

import gguf
import sentencepiece
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers.convert_slow_tokenizer import generate_merges

import make_tokenizer_goldens as goldens
from gguf_vocabulary import GPT4O, TEKKEN, begin_token, write_byte_level
from hf_to_gguf import finish

GOLDEN = pathlib.Path(__file__).parent.parent / "tests" / "golden"
OUT = GOLDEN / "gguf_tokenizers"
CASES = 70


def new_writer(name):
    return gguf.GGUFWriter(OUT / f"{name}.gguf", "llama")


def write_family(name, state, pre=None):
    writer = new_writer(name)
    write_byte_level(writer, state, 0, pre)
    begin = begin_token(state)
    if begin is not None:
        writer.add_bos_token_id(begin)
    writer.add_add_bos_token(begin is not None)
    finish(writer)


def write_cases(name, tokenizer):
    cases = []
    for text in goldens.adversarial(tokenizer, CASES, 23):
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
    (OUT / f"{name}.cases.json").write_text(json.dumps(cases, separators=(",", ":")))
    return cases


def smollm():
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    t.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    return goldens.train(t, 700, goldens.special("<|endoftext|>", "<|im_start|>"), alphabet)


def patterned(pattern, **options):
    t = goldens.byte_family(pattern, None, goldens.special("<s>", "</s>", "[INST]"), size=700)
    t.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", t.token_to_id("<s>"))]
    )
    return goldens.edit(t, lambda state: state["model"].update(options))


def train_sentencepiece():
    blob = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(goldens.corpus()),
        model_writer=blob,
        model_type="bpe",
        vocab_size=900,
        byte_fallback=True,
        split_digits=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True,
        minloglevel=2,
    )
    return sentencepiece.SentencePieceProcessor(model_proto=blob.getvalue())


def token_kind(pieces, i):
    if pieces.is_unknown(i):
        return gguf.TokenType.UNKNOWN
    if pieces.is_control(i):
        return gguf.TokenType.CONTROL
    return gguf.TokenType.BYTE if pieces.is_byte(i) else gguf.TokenType.NORMAL


def write_sentencepiece(pieces):
    everything = range(pieces.get_piece_size())
    writer = new_writer("sentencepiece")
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([pieces.id_to_piece(i) for i in everything])
    writer.add_token_scores([pieces.get_score(i) for i in everything])
    writer.add_token_types([token_kind(pieces, i) for i in everything])
    writer.add_bos_token_id(pieces.bos_id())
    writer.add_eos_token_id(pieces.eos_id())
    writer.add_unk_token_id(pieces.unk_id())
    finish(writer)


def twin(pieces):
    """The same in the `tokenizers` package, as transformers converts a Llama 2."""
    names = [pieces.id_to_piece(i) for i in range(pieces.get_piece_size())]
    vocab = {name: i for i, name in enumerate(names)}
    scores = {name: pieces.get_score(i) for name, i in vocab.items()}
    fixed = [n for n, i in vocab.items() if token_kind(pieces, i) != gguf.TokenType.NORMAL]
    merges = generate_merges(vocab, scores, fixed)
    t = Tokenizer(
        models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
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
    t.add_special_tokens(goldens.special("<unk>", "<s>", "</s>"))
    t.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", t.token_to_id("<s>"))]
    )
    return t


def make_sentencepiece():
    pieces = train_sentencepiece()
    write_sentencepiece(pieces)
    compared = 0
    for case in write_cases("sentencepiece", twin(pieces)):
        if case["text"] and "<" not in case["text"] and "\0" not in case["text"]:
            compared += 1
            if pieces.encode(case["text"]) != case["plain"]:
                raise SystemExit(f"SentencePiece differs on {case['text']!r}")
    print(f"sentencepiece: {compared} cases are what SentencePiece itself gives")


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    for name in ("gpt2", "llama3", "qwen2"):
        write_family(name, json.loads((GOLDEN / "tokenizers" / f"{name}.json").read_text()))
    made = {
        "smollm": (smollm(), None),
        "tekken": (patterned(TEKKEN, ignore_merges=True), None),
        "gpt4o": (patterned(GPT4O), None),
    }
    for name, (tokenizer, pre) in made.items():
        write_family(name, json.loads(tokenizer.to_str()), pre)
        write_cases(name, tokenizer)
    make_sentencepiece()


if __name__ == "__main__":
    main()
