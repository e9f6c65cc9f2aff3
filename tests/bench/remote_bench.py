"""Measures a cold request for a model that is still at its hub, over a link of a given rate: loaded
while it is fetched, and in the same run fetched first (`troupe pull`) and then loaded. The floor is
reading the same bytes over the same link with as many connections and throwing them away.

usage: python3 tests/bench/remote_bench.py path/to/troupe DIRECTORY [--gigabytes 1.1]
       [--megabytes-per-second 300] [--rounds 3]

Makes a model in DIRECTORY, as coldstart_bench.py does, and keeps what it fetches there; the pool is
in /dev/shm. The hub vouches for a sha256, so no token comes before all of it is verified. The hub stands
for another machine, so with root it runs before everything else on the cores that it shares. Medians
over the rounds, with minimum and maximum.
"""

import argparse
import hashlib
import http.client
import multiprocessing
import os
import pathlib
import shutil
import statistics
import subprocess
import threading
import time

from coldstart_bench import make_model
from pull_bench import FastHub, FastServer, FileBody
from serve_bench import Server, spread

CONNECTIONS, PART, SLICE = 8, 16 << 20, 1 << 18
HUB_PRIORITY = 10


class ShapedServer(FastServer):
    """All connections together send so many bytes a second."""

    def __init__(self, rate):
        super().__init__()
        self.rate, self.due, self.turn = rate, 0.0, threading.Lock()

    def send_body(self, handler, path, body):
        for at in range(0, len(body), SLICE):
            piece = body[at : min(at + SLICE, len(body))]
            with self.turn:
                self.due = max(self.due, time.perf_counter()) + len(piece) / self.rate
                due = self.due
            time.sleep(max(0, due - time.perf_counter()))
            super().send_body(handler, path, piece)


def go_first():
    """Whether this process goes before all of usual priority from now on."""
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(HUB_PRIORITY))
    except PermissionError:
        return False
    return True


def serve_hub(model, digest, rate, tell):
    first = go_first()
    weights = model / "model.safetensors"
    small = {p.name: p.read_bytes() for p in model.iterdir() if p.name != weights.name}
    hub = FastHub(small, weights, digest)
    hub.storage.close()
    hub.storage = ShapedServer(rate)
    hub.storage.files[f"/{digest}"] = FileBody(weights)
    tell.put((hub.url, f"{hub.storage.url}/{digest}", first))
    threading.Event().wait()


def read_plainly(url, size):
    """Seconds that the bytes take over the link."""
    host, path = url.removeprefix("http://").split("/", 1)
    offsets, turn = iter(range(0, size, PART)), threading.Lock()

    def work():
        connection = http.client.HTTPConnection(host)
        buffer = bytearray(1 << 20)
        while True:
            with turn:
                at = next(offsets, None)
            if at is None:
                return
            last = min(at + PART, size) - 1
            connection.request("GET", "/" + path, headers={"Range": f"bytes={at}-{last}"})
            answer = connection.getresponse()
            while answer.readinto(buffer):
                pass

    begun = time.perf_counter()
    readers = [threading.Thread(target=work) for _ in range(CONNECTIONS)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    return time.perf_counter() - begun


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("binary")
    parser.add_argument("directory", type=pathlib.Path)
    parser.add_argument("--gigabytes", type=float, default=1.1)
    parser.add_argument("--megabytes-per-second", type=float, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    model = options.directory / "coldstart-model"
    weights = make_model(model, options.gigabytes)
    size = weights.stat().st_size
    with weights.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    told = multiprocessing.Queue()
    rate = options.megabytes_per_second * 1e6
    hub = multiprocessing.Process(target=serve_hub, args=(model, digest, rate, told), daemon=True)
    hub.start()
    endpoint, blob, first = told.get()
    home, pool = options.directory / "remote-home", pathlib.Path("/dev/shm/troupe-remote-bench")
    os.environ |= {"HF_ENDPOINT": endpoint, "HF_HOME": str(home / "hub"), "no_proxy": "*"}
    os.environ |= {"XDG_CACHE_HOME": str(home / "cache"), "XDG_DATA_HOME": str(home / "data")}
    os.environ["TROUPE_STORAGE_POOL_MEMORY"] = str(int(size * 1.2) + (64 << 20))
    os.environ["TROUPE_STORAGE_POOL"] = str(pool)
    results = {}

    def note(name, seconds):
        results.setdefault(name, []).append(seconds)

    def fresh():
        for place in (home, pool):
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir(parents=True)
        os.sync()

    def cold(server):
        return server.first_token_seconds("acme/big", 1)[1]

    for _ in range(options.rounds):
        note("floor: the bytes over the link", read_plainly(blob, size))
        fresh()
        with Server(options.binary, ["hf://acme/big"]) as server:
            note("loaded while it is fetched", cold(server))
            note("warm request (resident)", cold(server))
        fresh()
        begun = time.perf_counter()
        subprocess.run(
            [options.binary, "pull", "hf://acme/big"], check=True, stdout=subprocess.DEVNULL
        )
        pulled = time.perf_counter() - begun
        with Server(options.binary, ["hf://acme/big"]) as server:
            note("fetched, then loaded", pulled + cold(server))
    hub.terminate()
    for place in (home, pool):
        shutil.rmtree(place, ignore_errors=True)
    print(
        f"{size / 1e9:.2f} GB, {options.rounds} rounds, link {rate / 1e6:.0f} MB/s,"
        f" the hub {'goes first' if first else 'shares the cores'}\n"
    )
    print("| state | seconds | of the floor |\n| --- | --- | --- |")
    floor = statistics.median(results["floor: the bytes over the link"])
    for name, seconds in results.items():
        part = "" if name.startswith("warm") else f"{statistics.median(seconds) / floor:.3f}"
        print(f"| {name} | {spread(seconds, 1, 3)} | {part} |")


if __name__ == "__main__":
    main()
