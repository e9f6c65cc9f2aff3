"""Every golden tokenizer against the `tokenizers` package, on thousands of adversarial strings.

Run by pytest (TROUPE_BUILD names the build folder) or by hand:
    python3 tests/conformance/test_tokenizer_vs_hf.py --binary build/release/bin/tokenizer_cli --count 20000
"""

import argparse
import os
import pathlib
import struct
import subprocess
import sys

import pytest
from tokenizers import Tokenizer

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
from make_tokenizer_goldens import FAMILIES, adversarial  # noqa: E402

GOLDEN = ROOT / "tests" / "golden" / "tokenizers"


def ours(binary, file, texts):
    blob = b"".join(struct.pack("<I", len(data)) + data for data in (t.encode() for t in texts))
    out = subprocess.run([str(binary), str(file)], input=blob, capture_output=True, check=True).stdout.decode()
    for line in out.splitlines():
        ids, plain, verbatim, streamed = line.split("\t")
        yield ([int(i) for i in ids.split()], *(bytes.fromhex(x).decode() for x in (plain, verbatim, streamed)))


def differences(binary, family, count, seed):
    file = GOLDEN / f"{family}.json"
    theirs = Tokenizer.from_file(str(file))
    texts = list(adversarial(theirs, count, seed))
    answers = list(ours(binary, file, texts))
    assert len(answers) == len(texts)
    for text, encoding, (ids, plain, verbatim, streamed) in zip(texts, theirs.encode_batch(texts), answers):
        if encoding.ids != ids:
            yield "encode", text, encoding.ids, ids
            continue
        decoded = theirs.decode(ids)
        if decoded != plain:
            yield "decode", text, decoded, plain
        if theirs.decode(ids, skip_special_tokens=False) != verbatim:
            yield "decode with special tokens", text, theirs.decode(ids, skip_special_tokens=False), verbatim
        if streamed != plain and "\ufffd" not in plain:
            yield "streaming decode", text, plain, streamed


@pytest.mark.parametrize("family", FAMILIES)
def test_equals_the_tokenizers_package(family):
    binary = pathlib.Path(os.environ["TROUPE_BUILD"]) / "bin" / "tokenizer_cli"
    found = list(differences(binary, family, 20000, 2024))
    assert not found, f"{len(found)} differences, the first: {found[0]}"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--count", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=2024)
    parser.add_argument("families", nargs="*", default=list(FAMILIES))
    options = parser.parse_args()
    failed = False
    for family in options.families:
        found = list(differences(options.binary, family, options.count, options.seed))
        failed = failed or bool(found)
        print(f"{family}: {len(found)} differences")
        for kind, text, expected, got in found[:3]:
            print(f"  {kind} {text!r}\n    expected {expected!r}\n    got      {got!r}")
    sys.exit(failed)


if __name__ == "__main__":
    main()
