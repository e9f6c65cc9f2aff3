"""AWQ, GPTQ, fp8 and compressed-tensors checkpoints through the binary: the greedy texts that transformers gives.

usage: python3 -m pytest tests/conformance/packed_test.py --binary build/release/bin/troupe

The checkpoints and what transformers computes with them are those of tools/make_packed_models.py.
"""

import json
import shutil

import conftest
import httpx
import pytest

PACKED = conftest.ROOT / "tests/golden/packed_models"
NAMES = sorted(path.name for path in PACKED.iterdir() if path.is_dir())
FIRST = ord("!")


def read_ids(path, name):
    """A tensor of int64."""
    blob = path.read_bytes()
    size = int.from_bytes(blob[:8], "little")
    first, last = json.loads(blob[8 : 8 + size])[name]["data_offsets"]
    part = blob[8 + size + first : 8 + size + last]
    return [int.from_bytes(part[at : at + 8], "little") for at in range(0, len(part), 8)]


def write_tokenizer(folder):
    """The checkpoints have none: one printable letter for each id."""
    size = json.loads((folder / "config.json").read_text())["vocab_size"]
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    vocabulary = {chr(FIRST + i): i for i in range(size)}
    text = {
        "version": "1.0",
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": level | {"use_regex": True},
        "post_processor": None,
        "decoder": level | {"use_regex": True},
        "model": {"type": "BPE", "vocab": vocabulary, "merges": []},
    }
    (folder / "tokenizer.json").write_text(json.dumps(text))


@pytest.fixture(scope="module")
def packed(request, tmp_path_factory):
    """A server of all of them, in float32, keys and values too."""
    scratch = tmp_path_factory.mktemp("packed")
    for name in NAMES:
        shutil.copytree(PACKED / name, scratch / "models" / name)
        write_tokenizer(scratch / "models" / name)
    server = conftest.Server(request.config, scratch, "precision: float32\nengine: {kv_type: f32}\n")
    server.models = scratch / "models"
    server.start()
    yield server
    server.stop()


@pytest.mark.parametrize("name", NAMES)
def test_the_greedy_text_is_that_of_transformers(packed, name):
    expected = PACKED / name / "expected.safetensors"
    answer = httpx.post(
        f"{packed.url}/v1/completions",
        json={
            "model": name,
            "prompt": read_ids(expected, "prompt"),
            "max_tokens": 64,
            "temperature": 0,
            "ignore_eos": True,
        },
        timeout=60,
    )
    assert answer.status_code == 200, answer.text
    (choice,) = answer.json()["choices"]
    assert choice["text"] == "".join(chr(FIRST + i) for i in read_ids(expected, "greedy"))
