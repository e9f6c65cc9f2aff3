"""Remote models of every kind that are loaded while they are fetched: GGUF files, packed weights,
models larger than the pool. What they say is what they say from a directory."""

import json
import pathlib
import random
import struct

import early_load_test
import httpx
import pytest
from early_load_test import (  # noqa: F401
    PATIENT,
    SOURCE,
    WEIGHTS,
    Held,
    asking,
    bound_bytes,
    files,
    pool,
    shapes,
    text_of,
)
from pull_support import MIB, Command, hub_env, troupe, wait_until  # noqa: F401
from remote_model_test import Serving
from web_servers import Hub, Server

GROUP = 64


def safetensors(tensors):
    """name -> (type, shape, bytes) as a file."""
    header, at = {}, 0
    for name, (kind, shape, data) in tensors.items():
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(x[2] for x in tensors.values())


def packed_parts(base, rows, cols, method, dice):
    """A matrix of random nibbles with scales of about 0.004, as GPTQ or AWQ keep it."""
    groups = cols // GROUP
    words = dice.randbytes(rows * cols // 2)
    shape = [cols // 8, rows] if method == "gptq" else [cols, rows // 8]
    yield f"{base}qweight", ("I32", shape, words)
    # GPTQ adds one to what stands there: eight everywhere. AWQ has zeros of all kinds.
    zeros = b"\x77" * (groups * rows // 2) if method == "gptq" else dice.randbytes(groups * rows // 2)
    yield f"{base}qzeros", ("I32", [groups, rows // 8], zeros)
    yield f"{base}scales", ("F16", [groups, rows], struct.pack("<e", 0.004) * (groups * rows))
    if method == "gptq":
        of = struct.pack(f"<{cols}i", *(k // GROUP for k in range(cols)))
        yield f"{base}g_idx", ("I32", [cols], of)


def packed(files, method, **settings):
    dice, out = random.Random(11), {}
    for name, shape in shapes():
        if name.endswith("_proj.weight"):
            out |= packed_parts(name.removesuffix("weight"), *shape, method, dice)
        else:
            count = shape[0] * (shape[1] if len(shape) > 1 else 1)
            data = bytearray(dice.randbytes(2 * count))
            data[1::2] = data[1::2].translate(bytes(0x3C | (i & 0x80) for i in range(256)))
            out[name] = ("BF16", list(shape), bytes(data))
    config = json.loads(files["config.json"])
    config["quantization_config"] = {"quant_method": method, "bits": 4, "group_size": GROUP}
    config["quantization_config"] |= settings
    return files | {"config.json": json.dumps(config).encode(), WEIGHTS: safetensors(out)}


def as_gguf(files, tmp_path, parts=1):
    import hf_to_gguf as converter

    model = tmp_path / "converted"
    model.mkdir(exist_ok=True)
    for name, data in files.items():
        (model / name).write_bytes(data)
    converter.convert(model, tmp_path / "big.gguf", parts=parts)
    return {p.name: p.read_bytes() for p in sorted(tmp_path.glob("big*.gguf"))}


def said_by(troupe, home, path, model="big"):
    local = Command(pathlib.Path(troupe.binary), home)
    with Serving(local, "", path) as server:
        return text_of(server.ask(model))


def written(files, where):
    where.mkdir(parents=True)
    for name, data in files.items():
        (where / name).write_bytes(data)
    return where


@pytest.fixture
def web():
    server = Server()
    yield server
    server.close()


def early_answer(troupe, server, config, held, least, env=()):
    """What the model says, after more than `least` bytes were bound while its end was held back."""
    with Serving(troupe, config, env=PATIENT | dict(env)) as node:
        with asking(node) as answers:
            wait_until(lambda: bound_bytes(node) > least or answers, node.process)
            assert not answers, answers[0].text
            held.release()
        first = text_of(answers[0])
        # Unloaded, it comes back from what is on the disk now.
        httpx.post(f"{node.url}/admin/models/big/unload", timeout=60)
        assert text_of(node.ask("big")) == first
        return first


@pytest.mark.parametrize(
    "method, settings",
    [("gptq", {"sym": True, "desc_act": False}), ("awq", {"version": "gemm", "zero_point": True})],
)
def test_packed_weights_are_bound_while_they_come(
    troupe, web, files, pool, tmp_path, method, settings
):
    model = packed(files, method, **settings)
    web.files.update({f"/big/{path}": data for path, data in model.items()})
    held = Held(web, WEIGHTS, len(model[WEIGHTS]) - MIB)
    config = SOURCE.format(source=f"{web.url}/big", pool=pool)
    text = early_answer(troupe, web, config, held, len(model[WEIGHTS]) / 2)
    assert text == said_by(troupe, tmp_path / "local", written(model, tmp_path / "local/big"))
    assert sum(web.sent.values()) < 1.01 * sum(len(x) for x in model.values())


def test_packed_weights_that_are_not_what_was_declared_are_loaded_in_the_end(
    troupe, web, files, pool, tmp_path
):
    model = packed(files, "gptq", sym=False)  # all its zeros are eight nevertheless
    web.files.update({f"/big/{path}": data for path, data in model.items()})
    with Serving(troupe, SOURCE.format(source=f"{web.url}/big", pool=pool)) as node:
        text = text_of(node.ask("big", 120))
    assert text == said_by(troupe, tmp_path / "local", written(model, tmp_path / "local/big"))
    assert web.sent[f"/big/{WEIGHTS}"] == len(model[WEIGHTS])


def test_a_model_larger_than_the_pool_is_bound_while_it_comes(
    troupe, web, files, pool, tmp_path, monkeypatch
):
    monkeypatch.setattr(early_load_test, "LAYERS", 60)
    config = json.loads(files["config.json"]) | {"num_hidden_layers": 60}
    model = files | {"config.json": json.dumps(config).encode(), WEIGHTS: early_load_test.weights()}
    web.files.update({f"/big/{path}": data for path, data in model.items()})
    held = Held(web, WEIGHTS, len(model[WEIGHTS]) - MIB)
    settings = SOURCE.format(source=f"{web.url}/big", pool=pool).replace("256MiB", "80MiB")
    text = early_answer(troupe, web, settings, held, len(model[WEIGHTS]) / 2)
    assert len(model[WEIGHTS]) > 120 * MIB
    assert text == said_by(troupe, tmp_path / "local", written(model, tmp_path / "local/big"))


@pytest.fixture
def gguf_files(files, tmp_path):
    return as_gguf(files, tmp_path)


def test_a_gguf_file_is_bound_while_it_comes(troupe, web, gguf_files, pool, tmp_path):
    ((name, data),) = gguf_files.items()
    web.files[f"/{name}"] = data
    held = Held(web, name, len(data) - MIB)
    config = SOURCE.format(source=f"{web.url}/{name}", pool=pool)
    text = early_answer(troupe, web, config, held, len(data) / 2)
    assert text == said_by(troupe, tmp_path / "local", written(gguf_files, tmp_path / "local") / name)
    # The head comes once more, for what reads requests.
    assert web.sent[f"/{name}"] < len(data) + 9 * MIB
    assert (troupe.store / "big" / name).exists()
    assert (troupe.store / ".heads").exists()
    with Serving(troupe, config):  # finds all of it here
        assert not (troupe.store / ".heads").exists()
    assert troupe("rm", "big").returncode == 0
    assert not list(troupe.store.rglob("*.gguf"))


def test_a_gguf_model_in_parts_comes_from_a_hub(troupe, files, pool, tmp_path):
    parts = as_gguf(files, tmp_path, parts=3)
    hub = Hub("acme/big")
    try:
        hub.is_lfs = lambda path: path.endswith(".gguf")
        hub.add(parts)
        name, data = list(parts.items())[-1]
        held = Held(hub.storage, "/" + hub.lfs_digest(data), len(data) - MIB // 2)
        config = SOURCE.format(source="hf://acme/big", pool=pool)
        least = sum(len(x) for x in parts.values()) / 3
        text = early_answer(troupe, hub, config, held, least, env=hub_env(hub))
    finally:
        hub.close()
    local = written(parts, tmp_path / "local") / next(iter(parts))
    assert text == said_by(troupe, tmp_path / "local", local)


def test_a_reference_to_a_gguf_file_runs(troupe, request, web, tmp_path):
    import hf_to_gguf as converter

    models = pathlib.Path(request.config.getoption("--models")).resolve()
    converter.convert(models / "stories-llama", tmp_path / "stories.gguf")
    web.files["/stories.gguf"] = (tmp_path / "stories.gguf").read_bytes()
    ask = ("Hello!", "--temperature", 0, "--max-tokens", 20)
    here = troupe("run", tmp_path / "stories.gguf", *ask)
    there = troupe("run", f"{web.url}/stories.gguf", *ask)
    assert there.returncode == 0 and there.stdout == here.stdout, there.stderr
    by_name = troupe("run", "stories", *ask)
    assert by_name.stdout == here.stdout, by_name.stderr
