"""The host pool of `troupe serve`: weights survive SIGKILL, and damaged ones are never served.

The model is an example in shards of its own, so that one of them can be damaged, cut or swapped."""

import json
import os
import pathlib
import re
import shutil
import signal
import struct
import uuid

import httpx
import pytest
from conftest import Server

MODEL = "stories-sharded"
SHARDS = 3


def read_tensors(file):
    """{name: (description in the header, bytes)} of a safetensors file."""
    raw = file.read_bytes()
    size = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8 : 8 + size])
    header.pop("__metadata__", None)
    out = {}
    for name, about in header.items():
        first, last = about["data_offsets"]
        out[name] = about, raw[8 + size + first : 8 + size + last]
    return out


def write_tensors(file, tensors):
    header, data = {}, b""
    for name, (about, bytes_of) in tensors.items():
        header[name] = about | {"data_offsets": [len(data), len(data) + len(bytes_of)]}
        data += bytes_of
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    file.write_bytes(struct.pack("<Q", len(text)) + text + data)


def make_model(example, directory):
    directory.mkdir(parents=True)
    for file in example.iterdir():
        if file.suffix in (".json", ".jinja"):
            shutil.copy(file, directory)
    tensors = list(read_tensors(example / "model.safetensors").items())
    places = {}
    for i in range(SHARDS):
        part = dict(tensors[i::SHARDS])
        write_tensors(directory / f"part-{i}.safetensors", part)
        places |= dict.fromkeys(part, f"part-{i}.safetensors")
    index = {"metadata": {}, "weight_map": places}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))


class Node:
    """A server over one sharded model with a pool, checksums and scratch files of its own."""

    def __init__(self, request, scratch, shared):
        models = scratch / "models"
        self.model = models / MODEL
        self.pool = shared
        make_model(pathlib.Path(request.config.getoption("--models")) / "stories-llama", self.model)
        text = f"storage: {{pool: {shared}, pool_memory: 64MiB}}\n"
        self.server = Server(
            request.config, scratch, text, {"XDG_CACHE_HOME": str(scratch / "cache")}
        )
        self.server.models = models

    def shard(self, i):
        return self.model / f"part-{i}.safetensors"

    def forget(self):
        """Lets the system drop the weight files from its page cache."""
        for i in range(SHARDS):
            with self.shard(i).open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    def empty_pool(self):
        for file in self.pool.iterdir():
            file.unlink()

    def start(self):
        self.server.start()

    def stop(self, how=signal.SIGTERM):
        self.server.stop(how)

    def ask(self):
        body = {"model": MODEL, "prompt": "Once upon a time", "max_tokens": 24, "temperature": 0}
        return httpx.post(self.server.url + "/v1/completions", json=body, timeout=120)

    def text(self):
        answer = self.ask()
        assert answer.status_code == 200, answer.text
        return answer.json()["choices"][0]["text"]

    def failure(self):
        answer = self.ask()
        assert answer.status_code >= 500, answer.text
        return answer.json()["error"]["message"]

    def pool_status(self):
        return httpx.get(self.server.url + "/admin/models", timeout=60).json()["pool"]

    def bytes_read(self):
        """What the server's process had read from disks."""
        text = pathlib.Path(f"/proc/{self.server.process.pid}/io").read_text()
        return int(re.search(r"^read_bytes: (\d+)", text, re.M)[1])


@pytest.fixture
def node(request, tmp_path):
    memory = pathlib.Path("/dev/shm")
    shared = (memory if memory.is_dir() else tmp_path) / f"troupe-test-{uuid.uuid4().hex}"
    shared.mkdir()
    out = Node(request, tmp_path, shared)
    yield out
    if hasattr(out.server, "process"):
        out.stop(signal.SIGKILL)
    shutil.rmtree(shared)


def test_weights_survive_the_process_and_come_back_without_a_read(node):
    size = sum(node.shard(i).stat().st_size for i in range(SHARDS))
    node.forget()
    node.start()
    text = node.text()
    first = node.pool_status()
    if first["held_bytes"] == 0:
        pytest.skip("this file system keeps its files in memory, where they are mapped")
    assert first["chunk_misses"] == SHARDS and first["chunk_hits"] == 0
    assert first["held_bytes"] == size
    assert re.search(r"^pool: [\d.]+ \w+ of [\d.]+ \w+ hold weights", node.server.troupe("ps"), re.M)
    node.stop(signal.SIGKILL)
    node.forget()
    node.start()
    before = node.bytes_read()
    assert node.text() == text
    again = node.pool_status()
    assert again["chunk_misses"] == 0 and again["chunk_hits"] == SHARDS
    assert node.bytes_read() - before < size / 4


def test_unloaded_models_leave_their_weights_in_the_pool(node):
    node.forget()
    node.start()
    text = node.text()
    if node.pool_status()["held_bytes"] == 0:
        pytest.skip("this file system keeps its files in memory, where they are mapped")
    misses = node.pool_status()["chunk_misses"]
    node.server.troupe("stop", MODEL)
    assert node.pool_status()["leased_bytes"] == 0
    node.forget()
    assert node.text() == text
    assert node.pool_status()["chunk_misses"] == misses


def flip(file):
    """Changes one bit and keeps the date, as a failing disk does."""
    info = file.stat()
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    with file.open("r+b") as out:
        out.write(content)
    os.utime(file, ns=(info.st_atime_ns, info.st_mtime_ns))


def swap(file):
    """Puts a shard of the same tensors and another content in the place of this one."""
    tensors = read_tensors(file)
    other = {name: (about, old[::-1]) for name, (about, old) in tensors.items()}
    fresh = file.with_name("fresh")
    write_tensors(fresh, other)
    fresh.rename(file)


def cut(file):
    os.truncate(file, file.stat().st_size - 1000)


# Read past the page cache into the pool, and mapped from it: both are verified.
@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("damage, says", [(flip, "at byte 0"), (swap, "at byte 0"), (cut, "bytes")])
def test_a_damaged_shard_is_named_and_never_served(node, damage, says, cached):
    node.start()
    text = node.text()
    node.stop()
    node.empty_pool()
    shutil.copy2(node.shard(1), node.shard(1).with_name("kept"))
    damage(node.shard(1))
    if not cached:
        node.forget()
    node.start()
    for _ in range(2):
        message = node.failure()
        assert str(node.shard(1)) in message and says in message, message
    node.stop()
    node.shard(1).with_name("kept").rename(node.shard(1))
    node.start()
    assert node.text() == text
