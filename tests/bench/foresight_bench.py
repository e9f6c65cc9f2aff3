"""Compares what a server foretold of cold and warm requests with what they took, by where the weights
were: on the disk, in the host pool, in both, in the page cache, loaded.

usage: python3 tests/bench/foresight_bench.py path/to/troupe DIRECTORY [--gigabytes 0.5] [--rounds 6]
       [--disk-mbps 500]

Makes two models in DIRECTORY (on the disk that is meant) unless they are there already, and asks a
server with a pool that holds one and a half of them, in turn and both at once, so that loads queue.
The first `--learning` loads only teach. Standard library only. Prints the median and the 95th
percentile of |predicted / measured - 1| of loads and of the time to the first token, and how well the
median of plain copies of a model's bytes, made between the requests, foretells the next one: what the
machine's memory alone makes uncertain. --disk-mbps holds
the disk to that rate, with root (shaped_disk.py); then the disk is also throttled four-fold in the end,
and the errors of the loads after that are printed, one by one.
"""

import argparse
import json
import mmap
import os
import pathlib
import shutil
import statistics
import threading
import time

from coldstart_bench import BLOCK, drop_cache, make_model
from serve_bench import Server
from shaped_disk import disk_at

THROTTLED_LOADS = 8


def quantile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def load_error(one):
    """Of the load alone; nothing for a request that joined a load or waited for none."""
    load, forecast = one["load"], one["forecast"]
    if not load or not forecast or forecast["model_state"] in ("loading", "resident"):
        return None
    real = load["total_seconds"] - load["queue_seconds"]
    return forecast["load_seconds"] / real - 1 if real > 0 else None


class PlainCopies:
    """Copies of the first bytes of a file in memory by two threads, and how long each took."""

    def __init__(self, source, size):
        self.descriptor = os.open(source, os.O_RDONLY)
        self.copy = memoryview(mmap.mmap(-1, size))
        self.seconds = []
        self.run()  # makes the memory
        self.seconds.clear()

    def part(self, begin, end):
        for at in range(begin, end, BLOCK):
            os.preadv(self.descriptor, [self.copy[at : min(at + BLOCK, end)]], at)

    def run(self):
        half = len(self.copy) // 2
        beside = threading.Thread(target=self.part, args=(0, half))
        begun = time.perf_counter()
        beside.start()
        self.part(half, len(self.copy))
        beside.join()
        self.seconds.append(time.perf_counter() - begun)

    def errors(self, learning):
        """Of foretelling each by the median of those before."""
        return [
            abs(statistics.median(self.seconds[:i]) / self.seconds[i] - 1)
            for i in range(max(learning, 1), len(self.seconds))
        ]


class Bench:
    """Two models, the server that loads them, and what it told of its requests."""

    def __init__(self, server, models, weights, pool):
        self.server, self.models, self.weights = server, models, weights
        self.told = {}  # by the request's id, oldest first
        self.copies = PlainCopies(next(pool.iterdir()), weights[0].stat().st_size)

    def unload(self):
        for model in self.models:
            self.server.post(f"/admin/models/{model.name}/unload")

    def ask(self, *which):
        threads = [
            threading.Thread(target=self.server.first_token_seconds, args=(self.models[i].name, 2))
            for i in which
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def ask_cold(self, *which):
        self.unload()
        for file in self.weights:
            drop_cache(file)
        self.ask(*which)

    def round(self, number):
        for order in ((0,), (1,), (0,), (0, 1), (1, 0)):
            self.ask_cold(*order)
            self.ask(order[0])  # it is loaded now
            self.copies.run()
        if number % 2 == 1:  # the files lie in the page cache, and are mapped
            self.unload()
            for file in self.weights:
                file.read_bytes()
            self.ask(0)
        self.note()

    def note(self):
        """What became of the requests; the server remembers the newest ones only."""
        for one in json.loads(self.server.get("/admin/requests")[1])["data"][::-1]:
            self.told.setdefault(one["id"], one)

    def throttled(self, disk):
        """Errors of the loads after the disk has become four times as slow, in their order."""
        disk.limit(disk.rate / 4)
        before = len(self.told)
        for i in range(THROTTLED_LOADS):
            self.ask_cold(i % 2)
        self.note()
        return [load_error(one) for one in list(self.told.values())[before:]]


def print_errors(told, copies, learning):
    """Of what came after so many loads, and so many copies."""
    errors, seen = {}, 0
    for one in told:
        load = load_error(one)
        seen += load is not None
        if not one["forecast"] or seen <= learning:
            continue
        state = one["forecast"]["model_state"]
        if load is not None:
            errors.setdefault(f"load, weights: {state}", []).append(abs(load))
        errors.setdefault(f"first token, weights: {state}", []).append(abs(one["prediction_error"]))
    if plain := copies.errors(learning):
        errors["plain copies, by the median of those before"] = plain
    print(f"After {learning} loads of {seen}:\n")
    print("| what | requests | median error | 95th percentile |\n| --- | --- | --- | --- |")
    for name, values in sorted(errors.items()):
        middle, most = quantile(values, 0.5), quantile(values, 0.95)
        print(f"| {name} | {len(values)} | {middle:.0%} | {most:.0%} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("binary")
    parser.add_argument("directory", type=pathlib.Path)
    parser.add_argument("--gigabytes", type=float, default=0.5)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--learning", type=int, default=20)
    parser.add_argument("--disk-mbps", type=float)
    options = parser.parse_args()
    models = [options.directory / f"foresight-model-{i}" for i in range(2)]
    # Of two seeds: equal chunks would be held once.
    weights = [make_model(model, options.gigabytes, 1 + i) for i, model in enumerate(models)]
    size = weights[0].stat().st_size
    pool = pathlib.Path("/dev/shm/troupe-foresight-bench")
    pool.mkdir(exist_ok=True)
    os.environ["TROUPE_STORAGE_POOL"] = str(pool)
    os.environ["TROUPE_STORAGE_POOL_MEMORY"] = str(size * 3 // 2 + (64 << 20))
    os.environ["XDG_CACHE_HOME"] = str(options.directory / "foresight-cache")

    throttled = []
    with disk_at(options.directory, options.disk_mbps) as disk:
        with Server(options.binary, models) as server:
            bench = Bench(server, models, weights, pool)
            for number in range(options.rounds):
                bench.round(number)
            told = list(bench.told.values())
            if options.disk_mbps:
                throttled = bench.throttled(disk)
    shutil.rmtree(pool)
    print(f"2 models of {size / 1e9:.2f} GB\n")
    print_errors(told, bench.copies, options.learning)
    if throttled:
        shown = ", ".join("-" if x is None else f"{x:+.0%}" for x in throttled)
        print(f"\nLoads after the disk became four times as slow: {shown}")


if __name__ == "__main__":
    main()
