"""Remote models that are loaded while they are fetched: what is early, and what must not be.

The model has real shapes and random weights, large enough to come in many parts."""

import contextlib
import json
import os
import pathlib
import random
import re
import shutil
import struct
import threading
import uuid

import httpx
import pytest
from pull_support import Command, hub_env, troupe, wait_until  # noqa: F401
from remote_model_test import Serving
from web_servers import Hub, Server

HIDDEN, INNER, LAYERS, HEADS, KV_HEADS, VOCABULARY = 256, 1024, 12, 8, 2, 32768
WEIGHTS = "model.safetensors"
MIB = 1 << 20


def shapes():
    kv = HIDDEN // HEADS * KV_HEADS
    yield "model.embed_tokens.weight", (VOCABULARY, HIDDEN)
    for i in range(LAYERS):
        layer = f"model.layers.{i}."
        for part in ("input_layernorm", "post_attention_layernorm"):
            yield f"{layer}{part}.weight", (HIDDEN,)
        for part, rows in (("q", HIDDEN), ("k", kv), ("v", kv), ("o", HIDDEN)):
            yield f"{layer}self_attn.{part}_proj.weight", (rows, HIDDEN)
        for part in ("gate", "up"):
            yield f"{layer}mlp.{part}_proj.weight", (INNER, HIDDEN)
        yield f"{layer}mlp.down_proj.weight", (HIDDEN, INNER)
    yield "model.norm.weight", (HIDDEN,)


def weights():
    header, at = {}, 0
    for name, shape in shapes():
        size = 2 * shape[0] * (shape[1] if len(shape) > 1 else 1)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    low = random.Random(7).randbytes(at // 2)
    data = bytearray(at)
    data[0::2] = low
    data[1::2] = low.translate(bytes(0x3C | (i & 0x80) for i in range(256)))  # about +-0.01
    return struct.pack("<Q", len(text)) + text + bytes(data)


@pytest.fixture(scope="module")
def files(request):
    example = pathlib.Path(request.config.getoption("--models")).resolve() / "stories-llama"
    out = {p.name: p.read_bytes() for p in example.iterdir() if p.suffix in (".json", ".jinja")}
    config = json.loads(out["config.json"])
    config |= {"hidden_size": HIDDEN, "intermediate_size": INNER, "num_hidden_layers": LAYERS}
    config |= {"num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS}
    config |= {"head_dim": HIDDEN // HEADS, "vocab_size": VOCABULARY}
    config |= {"tie_word_embeddings": True, "torch_dtype": "bfloat16"}
    return out | {"config.json": json.dumps(config).encode(), WEIGHTS: weights()}


@pytest.fixture
def pool(tmp_path):
    memory = pathlib.Path("/dev/shm")
    out = (memory if memory.is_dir() else tmp_path) / f"troupe-test-{uuid.uuid4().hex}"
    out.mkdir()
    yield out
    shutil.rmtree(out)


@pytest.fixture
def web(files):
    server = Server()
    server.files.update({f"/big/{path}": data for path, data in files.items()})
    yield server
    server.close()


@pytest.fixture
def hub(files):
    server = Hub("acme/big")
    server.add(files)
    yield server
    server.close()


class Held:
    """Keeps the bytes of a file from `offset` on until `release` is called."""

    def __init__(self, server, name, offset):
        self.event, self.server = threading.Event(), server
        server.faults.insert(0, self.fault)
        self.name, self.offset = name, offset

    def release(self):
        self.event.set()

    def fault(self, handler, path, wanted):
        if handler.command != "GET" or not path.endswith(self.name):
            return False
        data = self.server.files[path]
        first, last = wanted[0] if wanted else 0, wanted[1] if wanted else None
        last = len(data) - 1 if last is None else min(last, len(data) - 1)
        if last < self.offset or self.event.is_set():
            return False
        handler.send_response(206 if wanted else 200)
        if wanted:
            handler.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
        handler.send_header("ETag", self.server.etag(path))
        handler.send_header("Content-Length", str(last + 1 - first))
        handler.end_headers()
        at = max(first, self.offset)
        self.server.send_body(handler, path, data[first:at])
        handler.wfile.flush()
        self.event.wait(120)
        self.server.send_body(handler, path, data[at : last + 1])
        return True


PATIENT = {"TROUPE_DOWNLOAD_STALL_TIMEOUT": "100s"}
SOURCE = """
models:
  big:
    source: {source}
storage: {{pool: {pool}, pool_memory: 256MiB}}
"""


def bound_bytes(server):
    text = httpx.get(f"{server.url}/metrics").text
    found = re.search(r'^troupe_load_bound_bytes{model="big"} (\S+)', text, re.M)
    return float(found[1]) if found else 0


@contextlib.contextmanager
def asking(server):
    """A request that runs beside the body; its answer is in the list once the body is over."""
    answers = []
    asker = threading.Thread(target=lambda: answers.append(server.ask("big", 120)))
    asker.start()
    try:
        yield answers
    finally:
        asker.join()


def ask_in_vain(server):
    """A request to a node that will not live to answer it."""
    try:
        assert server.ask("big", 120).status_code >= 500
    except httpx.HTTPError:
        pass


def text_of(answer):
    assert answer.status_code == 200, answer.text
    return answer.json()["choices"][0]["message"]["content"]


@pytest.fixture
def expected(request, files, tmp_path):
    """What the model says when it is loaded from a directory."""
    home = tmp_path / "local"
    (home / "big").mkdir(parents=True)
    for name, data in files.items():
        (home / "big" / name).write_bytes(data)
    local = Command(pathlib.Path(request.config.getoption("--binary")).resolve(), home)
    with Serving(local, "", home / "big") as server:
        return text_of(server.ask("big"))


@pytest.mark.parametrize("kind", ["web", "hub"])
def test_weights_are_bound_before_the_last_bytes_have_come(
    troupe, request, files, pool, expected, kind
):
    origin = request.getfixturevalue(kind)
    server, name = (origin, WEIGHTS) if kind == "web" else (origin.storage, "")
    source = f"{origin.url}/big" if kind == "web" else "hf://acme/big"
    held = Held(server, name, len(files[WEIGHTS]) - MIB)
    env = PATIENT | (hub_env(origin) if kind == "hub" else {})
    with Serving(troupe, SOURCE.format(source=source, pool=pool), env=env) as node:
        with asking(node) as answers:
            wait_until(lambda: bound_bytes(node) > len(files[WEIGHTS]) / 2, node.process)
            assert not answers
            held.release()
        assert text_of(answers[0]) == expected
        status = httpx.get(f"{node.url}/admin/models").json()["pool"]
        assert status["held_bytes"] >= len(files[WEIGHTS]) - 4 * MIB
        # Unloaded, it comes back from the pool, and from the record of its checksums.
        httpx.post(f"{node.url}/admin/models/big/unload", timeout=60)
        assert text_of(node.ask("big")) == expected
    assert sum(server.sent.values()) < 1.01 * sum(len(x) for x in files.values())


def test_damaged_weights_never_say_a_word(troupe, hub, files, pool):
    digest = hub.lfs_digest(files[WEIGHTS])
    damaged = bytearray(files[WEIGHTS])
    damaged[len(damaged) // 2] ^= 1
    hub.storage.files["/" + digest] = bytes(damaged)
    config = SOURCE.format(source="hf://acme/big", pool=pool)
    body = {"model": "big", "stream": True, "max_tokens": 4}
    body |= {"messages": [{"role": "user", "content": "Hello"}]}
    with Serving(troupe, config, env=hub_env(hub)) as node:
        with httpx.stream(
            "POST", f"{node.url}/v1/chat/completions", json=body, timeout=120
        ) as answer:
            lines = [x for x in answer.iter_lines() if not x.startswith(":")]
        assert not any('"content":"' in x and '"content":""' not in x for x in lines), lines
        assert any("sha256" in x and "acme/big" in x for x in lines), lines
        status = httpx.get(f"{node.url}/admin/models").json()["pool"]
        assert status["held_bytes"] == 0
        hub.storage.files["/" + digest] = files[WEIGHTS]
        wait_until(lambda: node.ask("big").status_code == 200, node.process)


def test_a_request_outlives_bytes_that_were_damaged_on_their_way(
    troupe, hub, files, pool, expected
):
    digest = hub.lfs_digest(files[WEIGHTS])
    damaged = bytearray(files[WEIGHTS])
    damaged[-1000] ^= 1
    hub.storage.files["/" + digest] = bytes(damaged)

    def mend(handler, path, wanted):  # the second attempt takes it from the beginning, in one piece
        if handler.command == "GET" and not handler.headers.get("Range"):
            hub.storage.files["/" + digest] = files[WEIGHTS]
        return False

    hub.storage.faults.append(mend)
    config = SOURCE.format(source="hf://acme/big", pool=pool)
    with Serving(troupe, config, env=hub_env(hub)) as node:
        assert text_of(node.ask("big", 120)) == expected


def test_a_killed_node_goes_on_where_it_was(troupe, web, files, pool, expected):
    held = Held(web, WEIGHTS, len(files[WEIGHTS]) - MIB)
    config = SOURCE.format(source=f"{web.url}/big", pool=pool)
    node = Serving(troupe, config, env=PATIENT)
    with node:
        asker = threading.Thread(target=ask_in_vain, args=(node,))
        asker.start()
        wait_until(lambda: bound_bytes(node) > len(files[WEIGHTS]) / 2, node.process)
        node.process.kill()
        asker.join()
    held.release()
    with Serving(troupe, config, env=PATIENT) as node:
        assert text_of(node.ask("big")) == expected
    # Of each part that was open, what was not written down yet.
    assert web.sent[f"/big/{WEIGHTS}"] <= len(files[WEIGHTS]) + 8 * MIB


def open_files(process, name):
    """Paths with `name` in them that a process has open."""
    out = []
    for link in pathlib.Path(f"/proc/{process.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            out.append(str(link.readlink()))
    return [path for path in out if name in path]


def test_a_client_that_hangs_up_leaves_nothing_behind(troupe, web, files, pool):
    held = Held(web, WEIGHTS, len(files[WEIGHTS]) - MIB)
    config = SOURCE.format(source=f"{web.url}/big", pool=pool)
    with Serving(troupe, config, env=PATIENT) as node:
        with pytest.raises(httpx.TimeoutException):
            node.ask("big", 1)
        wait_until(lambda: bound_bytes(node) > len(files[WEIGHTS]) / 2, node.process)
        held.release()
        ready = lambda: "ready" in json.dumps(httpx.get(f"{node.url}/admin/models").json())  # noqa: E731
        wait_until(ready, node.process)
        httpx.post(f"{node.url}/admin/models/big/unload", timeout=60)
        leased = lambda: httpx.get(f"{node.url}/admin/models").json()["pool"]["leased_bytes"]  # noqa: E731
        wait_until(lambda: leased() == 0, node.process)
        wait_until(lambda: not open_files(node.process, WEIGHTS), node.process)


def test_a_node_that_stops_does_not_wait_for_bytes_that_never_come(troupe, web, files, pool):
    Held(web, WEIGHTS, len(files[WEIGHTS]) - MIB)
    config = SOURCE.format(source=f"{web.url}/big", pool=pool) + "drain_timeout: 100ms\n"
    with Serving(troupe, config, env=PATIENT) as node:
        asker = threading.Thread(target=ask_in_vain, args=(node,))
        asker.start()
        wait_until(lambda: bound_bytes(node) > len(files[WEIGHTS]) / 2, node.process)
    asker.join()  # the node has ended within the time that it is given to stop


def test_other_models_answer_while_one_comes(troupe, request, web, files, pool):
    held = Held(web, WEIGHTS, len(files[WEIGHTS]) - MIB)
    models = pathlib.Path(request.config.getoption("--models")).resolve()
    config = SOURCE.format(source=f"{web.url}/big", pool=pool) + f"model_dirs: [{models}]\n"
    with Serving(troupe, config, env=PATIENT) as node:
        with asking(node) as answers:
            wait_until(lambda: bound_bytes(node) > len(files[WEIGHTS]) / 2, node.process)
            assert node.ask("arith-qwen").status_code == 200
            assert not answers
            held.release()
        assert answers[0].status_code == 200


def test_who_else_fetches_the_same_model_is_waited_for(troupe, web, files, pool, expected):
    held = Held(web, WEIGHTS, len(files[WEIGHTS]) - MIB)
    other = troupe.start("pull", f"{web.url}/big", "--name", "big", env=PATIENT)
    wait_until(lambda: web.sent.get(f"/big/{WEIGHTS}", 0) > len(files[WEIGHTS]) / 2, other)
    config = SOURCE.format(source=f"{web.url}/big", pool=pool)
    with Serving(troupe, config, env=PATIENT) as node:
        with asking(node) as answers:
            held.release()
        assert text_of(answers[0]) == expected
    other.communicate(timeout=60)
    assert other.returncode == 0
    assert web.sent[f"/big/{WEIGHTS}"] == len(files[WEIGHTS])


def flip(file, at):
    """Changes one bit and keeps the date, as a failing disk does."""
    info = file.stat()
    with file.open("r+b") as out:
        out.seek(at)
        byte = out.read(1)[0]
        out.seek(at)
        out.write(bytes([byte ^ 4]))
    os.utime(file, ns=(info.st_atime_ns, info.st_mtime_ns))
    with file.open("rb") as cached:
        os.fsync(cached.fileno())
        os.posix_fadvise(cached.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@pytest.fixture
def fetched(troupe, web, files, pool, expected):
    """A node's configuration after it has fetched the model, and the file of its weights."""
    config = SOURCE.format(source=f"{web.url}/big", pool=pool)
    with Serving(troupe, config) as node:
        assert text_of(node.ask("big")) == expected
    for left in pool.iterdir():
        left.unlink()
    return config, troupe.store / "big" / WEIGHTS


@pytest.mark.parametrize("where", [0.3, 0.999])
def test_a_damaged_chunk_is_fetched_again_and_the_request_waits(
    troupe, web, files, fetched, expected, where
):
    config, weights = fetched
    at = int(where * len(files[WEIGHTS]))
    flip(weights, at)
    sent = web.sent[f"/big/{WEIGHTS}"]
    with Serving(troupe, config) as node:
        assert text_of(node.ask("big")) == expected
        assert web.sent[f"/big/{WEIGHTS}"] - sent <= 4 * MIB
        assert "bytes were fetched anew" in node.text()
    assert weights.read_bytes() == files[WEIGHTS]


def test_mending_knows_the_credentials_of_the_source_and_nobody_else_does(
    troupe, web, files, pool, expected
):
    def guard(handler, path, wanted):
        given = handler.headers.get("Authorization")
        return given != "Basic am9lOnNlY3JldA==" and web.refuse(handler, 401)  # joe:secret

    web.faults.append(guard)
    source = f"{web.url}/big".replace("//", "//joe:secret@")
    config = SOURCE.format(source=source, pool=pool)
    with Serving(troupe, config) as node:
        assert text_of(node.ask("big")) == expected
        told = node.text()
    for left in pool.iterdir():
        left.unlink()
    weights = troupe.store / "big" / WEIGHTS
    flip(weights, len(files[WEIGHTS]) // 2)
    with Serving(troupe, config) as node:
        assert text_of(node.ask("big")) == expected
        assert "bytes were fetched anew" in node.text()
        explained = troupe("explain", "--last", env={"TROUPE_URL": node.url})
        told += node.text() + explained.stdout + explained.stderr
        told += httpx.get(f"{node.url}/admin/models").text
    assert weights.read_bytes() == files[WEIGHTS]
    assert "secret" not in told
    written = (troupe.store / "big/.troupe").rglob("*")
    assert not [x for x in written if x.is_file() and b"secret" in x.read_bytes()]
    wrong = troupe("pull", source + "?x=1")
    assert wrong.returncode != 0 and "secret" not in wrong.stderr, wrong.stderr


def test_a_damaged_chunk_that_nobody_has_any_more_is_an_error_that_says_so(
    troupe, web, files, fetched
):
    config, weights = fetched
    flip(weights, len(files[WEIGHTS]) // 2)
    changed = bytearray(files[WEIGHTS])
    changed[len(changed) // 2] ^= 8
    web.files[f"/big/{WEIGHTS}"] = bytes(changed)
    with Serving(troupe, config) as node:
        answer = node.ask("big")
        assert answer.status_code >= 500, answer.text
        message = answer.json()["error"]["message"]
        assert str(weights) in message and "at byte" in message and "troupe pull" in message
        web.files[f"/big/{WEIGHTS}"] = files[WEIGHTS]
        wait_until(lambda: node.ask("big").status_code == 200, node.process)
