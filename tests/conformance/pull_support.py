"""What the tests of downloads share: the command in a home of its own, models, servers."""

import hashlib
import json
import os
import pathlib
import random
import struct
import subprocess
import time

import pytest
from web_servers import Hub, Server

OK, FAILED, USAGE, NOT_FOUND = 0, 1, 2, 4
MIB = 1 << 20


def random_bytes(size, seed=1):
    dice = random.Random(seed)
    step = 64 * MIB  # randbytes takes no more than 256 MiB
    return b"".join(dice.randbytes(min(step, size - at)) for at in range(0, size, step))


def safetensors(size, seed=1):
    """A file in safetensors with one tensor of about `size` bytes."""
    data = random_bytes(size, seed)
    header = {"w": {"dtype": "U8", "shape": [len(data)], "data_offsets": [0, len(data)]}}
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def model_files(size=3 * MIB, seed=1):
    return {
        "config.json": b'{"architectures": ["LlamaForCausalLM"], "model_type": "llama"}',
        "tokenizer.json": b'{"model": {}}' + b" " * 5000,
        "model.safetensors": safetensors(size, seed),
    }


class Command:
    def __init__(self, binary, home):
        self.binary, self.home = str(binary), home
        keep = ("PATH", "LANG", "LD_LIBRARY_PATH", "ASAN_OPTIONS", "TMPDIR")
        self.env = {k: os.environ[k] for k in keep if k in os.environ}
        self.env |= {"HOME": str(home), "TROUPE_DOWNLOAD_STALL_TIMEOUT": "1s", "no_proxy": "*"}
        self.env |= {"AWS_EC2_METADATA_DISABLED": "true"}

    def start(self, *arguments, env=(), **more):
        words = [self.binary, *map(str, arguments)]
        pipe = subprocess.PIPE
        more = {"stdout": pipe, "stderr": pipe} | more
        return subprocess.Popen(words, env=self.env | dict(env), cwd=self.home, text=True, **more)

    def __call__(self, *arguments, env=(), timeout=120):
        process = self.start(*arguments, env=env)
        out, err = process.communicate(timeout=timeout)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    @property
    def store(self):
        return self.home / ".local/share/troupe/models"

    @property
    def hub_cache(self):
        return self.home / ".cache/huggingface/hub"


@pytest.fixture
def troupe(request, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    return Command(pathlib.Path(request.config.getoption("--binary")).resolve(), home)


@pytest.fixture
def web():
    server = Server()
    yield server
    server.close()


@pytest.fixture
def hub():
    server = Hub()
    server.add(model_files() | {"README.md": b"# tiny\n", "original/extra.pth": b"x" * 999})
    yield server
    server.close()


def serve_model(web, files, name="tiny"):
    web.files.update({f"/{name}/{path}": data for path, data in files.items()})
    return f"{web.url}/{name}"


def assert_pulled(directory, files):
    for path, data in files.items():
        got = (directory / path).read_bytes()
        assert hashlib.sha256(got).digest() == hashlib.sha256(data).digest(), path


def leftovers(directory):
    return [p for p in directory.rglob("*") if p.suffix in (".partial", ".journal")]


def hub_env(hub, **more):
    return {"HF_ENDPOINT": hub.url} | more


def wait_until(condition, process=None):
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until and (not process or process.poll() is None)
        time.sleep(0.005)
