"""Measures how long a cold request takes until its weights begin to be read, with many models registered,
and what so many models cost at the start.

usage: python3 tests/bench/first_read_bench.py path/to/troupe DIRECTORY [--models 1000] [--requests 200]

Makes copies of the example models in DIRECTORY (on the disk that is meant; most of them hard links of one
another) and asks for `--requests` of them, each one once, with its weights out of the page cache. The
first read is seen in /proc/PID/io, which counts what the kernel asked the disk for, read over and over
from the moment on at which the request is sent; nothing else of the model is left to be read from there.
Standard library only.
"""

import argparse
import http.client
import json
import os
import pathlib
import re
import shutil
import statistics
import time

from serve_bench import EXAMPLES, Server, spread

HEADER = 256 << 10  # more than the headers of the examples
POOL = pathlib.Path("/dev/shm/troupe-first-read-bench")
WARM_UP = 5


def make_models(root, count, own):
    """`own` of them have weights of their own, those come first."""
    sources = sorted(p.parent for p in EXAMPLES.glob("*/config.json"))
    out = []
    for i in range(count):
        source, model = sources[i % len(sources)], root / f"model-{i:04}"
        shutil.copytree(source, model, ignore=shutil.ignore_patterns("*.safetensors"))
        weights = model / "model.safetensors"
        if i < own:
            shutil.copy(source / weights.name, weights)
            with weights.open("rb+") as file:
                os.fsync(file.fileno())
        else:
            os.link(out[i % len(sources)] / weights.name, weights)
        out.append(model)
    return out


def forget_weights(model):
    with (model / "model.safetensors").open("rb") as file:
        os.posix_fadvise(file.fileno(), HEADER, 0, os.POSIX_FADV_DONTNEED)


class DiskReads:
    def __init__(self, process):
        self.file = open(f"/proc/{process.pid}/io", "rb", buffering=0)

    def count(self):
        self.file.seek(0)
        return int(re.search(rb"^read_bytes: (\d+)", self.file.read(), re.M)[1])


def first_read_seconds(server, reads, model):
    """From a request's sending to the first read after it, and to its answer."""
    body = json.dumps({"model": model.name, "prompt": "Once", "max_tokens": 1})
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.connect()
    before = reads.count()
    begun = time.perf_counter()
    connection.request("POST", "/v1/completions", body, {"Content-Type": "application/json"})
    while reads.count() == before:
        if time.perf_counter() - begun > 10:
            raise SystemExit(f"{model}: nothing was read")
    first = time.perf_counter() - begun
    answer = connection.getresponse()
    if answer.status != 200:
        raise SystemExit(f"{answer.status}: {answer.read().decode()}")
    answer.read()
    connection.close()
    return first, time.perf_counter() - begun


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("binary")
    parser.add_argument("directory", type=pathlib.Path)
    parser.add_argument("--models", type=int, default=1000)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    root = options.directory / "first-read-models"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    POOL.mkdir(exist_ok=True)
    os.environ["XDG_CACHE_HOME"] = str(root / "cache")
    os.environ["TROUPE_STORAGE_POOL"] = str(POOL)
    models = make_models(root / "models", options.models, options.requests + WARM_UP)
    firsts, wholes, ready, resident = [], [], [], []
    try:
        for _ in range(options.rounds):
            with Server(options.binary, [root / "models"]) as server:
                ready.append(server.ready_seconds)
                resident.append(server.resident_bytes())
        with Server(options.binary, [root / "models"]) as server:
            reads = DiskReads(server.process)
            for i, model in enumerate(models[: options.requests + WARM_UP]):
                forget_weights(model)
                first, whole = first_read_seconds(server, reads, model)
                server.post(f"/admin/models/{model.name}/unload")
                if i >= WARM_UP:
                    firsts.append(first)
                    wholes.append(whole)
    finally:
        shutil.rmtree(root)
        shutil.rmtree(POOL)
    firsts.sort()
    p99 = firsts[max(0, int(len(firsts) * 0.99) - 1)]
    print(f"| with {options.models} models registered | figure | goal |\n| --- | --- | --- |")
    print(f"| start to ready, ms | {spread(ready, 1e3, 1)} | |")
    print(f"| resident memory then, MiB | {spread(resident, 2**-20, 1)} | |")
    print(
        f"| cold request to first read, ms, p50 / p99 / most | {statistics.median(firsts) * 1e3:.2f} /"
        f" {p99 * 1e3:.2f} / {firsts[-1] * 1e3:.2f} | p99 <= 5 |"
    )
    print(f"| the same request to its answer, ms | {spread(wholes, 1e3)} | |")


if __name__ == "__main__":
    main()
