"""Every golden tokenizer against the `tokenizers` package, on thousands of adversarial strings and
random ids; every normalizer and pre-tokenizer on every character of Unicode.

Run by pytest (TROUPE_BUILD names the build folder) or by hand:
    pip install tokenizers pytest
    python3 tests/conformance/test_tokenizer_vs_hf.py --binary build/release/bin/tokenizer_cli --count 20000
"""

import argparse
import os
import pathlib
import random
import struct
import subprocess
import sys
import tempfile

import pytest
from tokenizers import Tokenizer

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "tests" / "conformance")]
from make_tokenizer_goldens import FAMILIES, adversarial  # noqa: E402
from tokenizer_variants import every_character, variants  # noqa: E402

GOLDEN = ROOT / "tests" / "golden" / "tokenizers"
VARIANTS = dict(variants())


def ask(binary, file, kind, bodies):
    """The answers of tokenizer_cli: (ids or None, texts) for each request."""
    blob = b"".join(struct.pack("<cI", kind, len(body)) + body for body in bodies)
    out = subprocess.run(
        [str(binary), str(file)], input=blob, capture_output=True, check=True
    ).stdout.decode()
    answers = []
    for line in out.splitlines():
        ids, *texts = line.split("\t")
        answers.append(
            ([int(i) for i in ids.split()], [bytes.fromhex(text).decode() for text in texts])
        )
    assert len(answers) == len(bodies)
    return answers


def exact_stream(theirs, verbatim):
    """Whether streaming must add up to decode: always, but for a run of fallback bytes that is not UTF-8."""
    return '"ByteFallback"' not in theirs.to_str() or "\ufffd" not in verbatim


def decode_differences(theirs, lists, answers):
    expectations = zip(
        theirs.decode_batch(lists),
        theirs.decode_batch(lists, skip_special_tokens=False),
        theirs.decode_batch([ids[: len(ids) // 2] for ids in lists]),
    )
    for ids, (expected, expected_verbatim, begun), (_, texts) in zip(lists, expectations, answers):
        plain, verbatim, streamed, streamed_verbatim, primed = texts
        if expected != plain:
            yield "decode", ids, expected, plain
        if expected_verbatim != verbatim:
            yield "decode with special tokens", ids, expected_verbatim, verbatim
        if exact_stream(theirs, expected_verbatim):
            if streamed != expected:
                yield "streaming decode", ids, expected, streamed
            if streamed_verbatim != expected_verbatim:
                yield (
                    "streaming decode with special tokens",
                    ids,
                    expected_verbatim,
                    streamed_verbatim,
                )
        if "\ufffd" not in expected_verbatim + begun and begun + primed != expected:
            yield "primed streaming decode", ids, expected, begun + primed


def text_differences(binary, theirs, file, texts):
    answers = ask(binary, file, b"e", [text.encode() for text in texts])
    expected = [encoding.ids for encoding in theirs.encode_batch(texts)]
    for text, ids, (got, _) in zip(texts, expected, answers):
        if ids != got:
            yield "encode", text, ids, got
    yield from decode_differences(theirs, [ids for ids, _ in answers], answers)


def untrusted_differences(binary, theirs, file, texts):
    theirs.encode_special_tokens = True
    for text, encoding, (ids, _) in zip(
        texts, theirs.encode_batch(texts), ask(binary, file, b"u", [t.encode() for t in texts])
    ):
        if encoding.ids != ids:
            yield "encode with special tokens as text", text, encoding.ids, ids
    theirs.encode_special_tokens = False


def random_ids(theirs, count, seed):
    """Ids that no text encodes to: broken characters, special tokens anywhere, ids past the end."""
    pick = random.Random(seed)
    size = theirs.get_vocab_size()
    added = list(theirs.get_added_tokens_decoder())
    odd = [
        i for t, i in theirs.get_vocab().items() if len(t) < 3 or t.startswith(("<0x", "▁"))
    ] or [0]
    choices = [
        lambda: pick.randrange(size),
        lambda: pick.choice(odd),
        lambda: pick.choice(added or odd),
        lambda: size + pick.randrange(99),
    ]
    for _ in range(count):
        weights = pick.choice([(9, 3, 1, 0), (1, 9, 1, 0), (1, 3, 3, 1)])
        yield [pick.choices(choices, weights)[0]() for _ in range(pick.randrange(14))]


def id_differences(binary, theirs, file, lists):
    answers = ask(binary, file, b"d", [struct.pack(f"<{len(ids)}i", *ids) for ids in lists])
    yield from decode_differences(theirs, lists, answers)


def family_differences(binary, family, count, seed):
    file = GOLDEN / f"{family}.json"
    theirs = Tokenizer.from_file(str(file))
    texts = list(adversarial(theirs, count, seed))
    yield from text_differences(binary, theirs, file, texts)
    yield from untrusted_differences(binary, theirs, file, texts[: count // 4])
    yield from id_differences(binary, theirs, file, list(random_ids(theirs, count // 2, seed)))


def variant_differences(binary, name):
    theirs = VARIANTS[name]
    with tempfile.NamedTemporaryFile(suffix=".json", mode="w", encoding="utf-8") as file:
        file.write(theirs.to_str())
        file.flush()
        texts = [*every_character(name), *adversarial(theirs, 500, 5)]
        yield from text_differences(binary, theirs, file.name, texts)
        yield from id_differences(binary, theirs, file.name, list(random_ids(theirs, 500, 3)))


def built_cli():
    return pathlib.Path(os.environ["TROUPE_BUILD"]) / "bin" / "tokenizer_cli"


@pytest.mark.parametrize("family", FAMILIES)
def test_equals_the_tokenizers_package(family):
    found = list(family_differences(built_cli(), family, 20000, 2024))
    assert not found, f"{len(found)} differences, the first: {found[0]}"


@pytest.mark.parametrize("name", VARIANTS)
def test_treats_every_character_as_the_tokenizers_package_does(name):
    found = list(variant_differences(built_cli(), name))
    assert not found, f"{len(found)} differences, the first: {found[0]}"


def report(name, differences):
    found = list(differences)
    print(f"{name}: {len(found)} differences", flush=True)
    for kind, what, expected, got in found[:3]:
        print(f"  {kind} {what!r}\n    expected {expected!r}\n    got      {got!r}")
    return bool(found)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--count", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=2024)
    parser.add_argument(
        "names", nargs="*", default=[*FAMILIES, *(f"every character, {name}" for name in VARIANTS)]
    )
    options = parser.parse_args()
    failed = False
    for name in options.names:
        variant = name.removeprefix("every character, ")
        if name in FAMILIES:
            failed |= report(
                name, family_differences(options.binary, name, options.count, options.seed)
            )
        else:
            failed |= report(name, variant_differences(options.binary, variant))
    sys.exit(failed)


if __name__ == "__main__":
    main()
