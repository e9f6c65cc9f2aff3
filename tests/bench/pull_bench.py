"""Measures downloads over loopback: `troupe pull` beside curl and the hub's own client, in one run.

usage: python3 tests/bench/pull_bench.py path/to/troupe [--mib 1024] [--rounds 5]
Needs curl, and huggingface_hub for its row (tests/conformance/requirements.txt). The server is a
process of its own that hands files to the kernel (sendfile). Every round starts with nothing
fetched and the served file in the page cache; medians, with minimum and maximum. Figures that end
on a disk depend on how full its caches are, so ratios are of rows that took turns.
"""

import argparse
import hashlib
import multiprocessing
import os
import pathlib
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/conformance"))
from web_servers import Hub, Server  # noqa: E402


def make_weights(path, size):
    """A safetensors file of about `size` bytes, and its sha256."""
    header = b'{"w":{"dtype":"U8","shape":[%d],"data_offsets":[0,%d]}}' % (size, size)
    digest = hashlib.sha256()
    with path.open("wb") as out:
        for piece in (struct.pack("<Q", len(header)), header):
            out.write(piece)
            digest.update(piece)
        block = os.urandom(1 << 20)
        for at in range(0, size, len(block)):
            piece = block[: size - at]
            out.write(piece)
            digest.update(piece)
    return digest.hexdigest()


class FileBody:
    """Stands in for the bytes of a file: has a length and knows how to be sent."""

    def __init__(self, path, offset=0, length=None):
        self.path, self.offset = path, offset
        self.length = path.stat().st_size if length is None else length

    def __len__(self):
        return self.length

    def __getitem__(self, part):
        begin, end, _ = part.indices(self.length)
        return FileBody(self.path, self.offset + begin, end - begin)


class FastServer(Server):
    def etag(self, path):
        return f'"{len(self.files[path])}"'

    def send_body(self, handler, path, body):
        if not isinstance(body, FileBody):
            return super().send_body(handler, path, body)
        handler.wfile.flush()
        with body.path.open("rb") as file:
            at, left = body.offset, body.length
            while left:
                sent = os.sendfile(handler.connection.fileno(), file.fileno(), at, left)
                at, left = at + sent, left - sent


class FastHub(Hub):
    """A hub whose only large file is on disk, with a checksum that is known already."""

    def __init__(self, small, weights, digest):
        super().__init__("acme/big")
        self.storage.close()
        self.storage = FastServer()
        self.add(small)
        self.storage.files[f"/{digest}"] = FileBody(weights)
        self.digest = digest
        self.repository["model.safetensors"] = FileBody(weights)

    def sibling(self, path, data):
        if not isinstance(data, FileBody):
            return super().sibling(path, data)
        lfs = {"sha256": self.digest, "size": len(data), "pointerSize": 134}
        return {"rfilename": path, "size": len(data), "blobId": "0" * 40, "lfs": lfs}

    def tree_entry(self, path, data):
        if not isinstance(data, FileBody):
            return super().tree_entry(path, data)
        lfs = {"oid": self.digest, "size": len(data), "pointerSize": 134}
        return {"type": "file", "path": path, "size": len(data), "oid": "0" * 40, "lfs": lfs}

    def lfs_digest(self, data):
        return self.digest if isinstance(data, FileBody) else super().lfs_digest(data)


def serve(small, weights, digest, out):
    web = FastServer()
    web.files.update({f"/big/{path}": data for path, data in small.items()})
    web.files["/big/model.safetensors"] = FileBody(weights)
    hub = FastHub(small, weights, digest)
    out.send((web.url, hub.url))
    time.sleep(86400)


def timed(words, home, **env):
    """Seconds of a command in an empty home."""
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir()
    env = {"PATH": os.environ["PATH"], "HOME": str(home), "no_proxy": "*"} | env
    os.sync()
    begun = time.perf_counter()
    done = subprocess.run(words, env=env, cwd=home, capture_output=True, text=True)
    seconds = time.perf_counter() - begun
    if done.returncode != 0:
        raise SystemExit(f"{words}: {done.stderr}")
    return seconds


HUB_CLIENT = "from huggingface_hub import snapshot_download; snapshot_download('acme/big')"


def commands(troupe, web, hub):
    one = ["curl", "-sSf", "--output", "model.safetensors", f"{web}/big/model.safetensors"]
    hub_env = {"HF_ENDPOINT": hub, "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    out = {
        "curl, one connection": (one, {}),
        "troupe pull http://, 1 connection": (
            [troupe, "pull", f"{web}/big", "--connections", "1"],
            {},
        ),
        "troupe pull http://, 8 connections": ([troupe, "pull", f"{web}/big"], {}),
        "troupe pull hf://, sha256 checked": ([troupe, "pull", "hf://acme/big"], hub_env),
    }
    try:
        import huggingface_hub  # noqa: F401

        out["huggingface_hub snapshot_download"] = ([sys.executable, "-c", HUB_CLIENT], hub_env)
        out["the same, process start alone"] = (
            [sys.executable, "-c", "from huggingface_hub import snapshot_download"],
            hub_env,
        )
    except ImportError:
        print("huggingface_hub is not installed: its row is left out")
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("troupe", type=pathlib.Path)
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="troupe-pull-bench-"))
    weights = scratch / "weights"
    digest = make_weights(weights, given.mib << 20)
    small = {"config.json": b'{"architectures": ["LlamaForCausalLM"], "model_type": "llama"}'}
    receive, send = multiprocessing.Pipe(False)
    server = multiprocessing.Process(target=serve, args=(small, weights, digest, send))
    server.start()
    try:
        rows = commands(str(given.troupe.resolve()), *receive.recv())
        seconds = {name: [] for name in rows}
        for _ in range(given.rounds):
            for name, (words, env) in rows.items():
                seconds[name].append(timed(words, scratch / "home", **env))
        report(seconds, weights.stat().st_size)
    finally:
        server.terminate()
        shutil.rmtree(scratch)


def report(seconds, size):
    floor = statistics.median(seconds["curl, one connection"])
    print(f"{size >> 20} MiB over loopback, median [min..max]")
    print("| what | seconds | MB/s | of curl's speed |")
    print("| --- | --- | --- | --- |")
    for name, values in seconds.items():
        middle = statistics.median(values)
        alone = "alone" in name
        rate = "" if alone else f"{size / middle / 1e6:.0f}"
        ratio = "" if alone else f"{floor / middle:.2f}"
        print(
            f"| {name} | {middle:.2f} [{min(values):.2f}..{max(values):.2f}] | {rate} | {ratio} |"
        )


if __name__ == "__main__":
    main()
