"""Measures how fast weights come from a disk into the host pool, beside what fio reads from the same file
and beside other loaders, and how much sooner they are there when the pool holds a part of them.

usage: python3 tests/bench/tiers_bench.py path/to/build/bin DIRECTORY [--gigabytes 1.2] [--rounds 5]
       [--pause 4] [--python build/venv/bin/python] [--disk-mbps 500]

Makes a model in DIRECTORY (on the disk that is meant) unless it is there already. Every round goes
through everything, each round in another order and with a pause before each read, because disks save up
bursts; every read begins with the file out of the page cache. fio reads past it, with blocks as the
pool's reader has them and the queue depth that is best here. --python has torch, safetensors and
fastsafetensors (tests/bench/requirements.txt); loaders that it lacks are left out. Memory is made ready
before the pool is filled, as `storage.pool_ready` does, but for the row that says otherwise.

Of the partial loads the floor is max((1 - f) n / disk, n / pool): the rates of fio and of a load from the
pool, in the same round. Medians over the rounds, with minimum and maximum.
"""

import argparse
import json
import os
import pathlib
import random
import resource
import shutil
import statistics
import subprocess
import sys
import time

from coldstart_bench import drop_cache, make_model
from serve_bench import spread
from shaped_disk import disk_at

BLOCK, DEPTHS, STRIDE = 512 << 10, (4, 8, 16, 32), 4096
SHARES = (0, 0.25, 0.5, 0.75, 1)
POOL = pathlib.Path("/dev/shm/troupe-tiers-bench")


def read_whole(path):
    buffer = bytearray(16 << 20)
    with open(path, "rb", buffering=0) as file:
        while file.readinto(buffer):
            pass


def touch_mapped(path):
    import numpy

    numpy.memmap(path, numpy.uint8, "r")[::STRIDE].sum()


def load_safetensors(path):
    import torch
    from safetensors.torch import load_file

    for tensor in load_file(path).values():
        tensor.flatten().view(torch.uint8)[::STRIDE].sum()


def load_fastsafetensors(path):
    from fastsafetensors import fastsafe_open

    with fastsafe_open(str(path), device="cpu", nogds=True) as file:
        for name in file.keys():
            file.get_tensor(name)


PEERS = {
    "plain read()": read_whole,
    "numpy, mapped, every page touched": touch_mapped,
    "safetensors into torch, every page touched": load_safetensors,
    "fastsafetensors": load_fastsafetensors,
}
IMPORTS = {
    "numpy, mapped, every page touched": "import numpy",
    "safetensors into torch, every page touched": "import torch, safetensors.torch",
    "fastsafetensors": "import torch, fastsafetensors",
}


def cpu_seconds():
    use = resource.getrusage(resource.RUSAGE_SELF)
    return use.ru_utime + use.ru_stime


def be_peer(name, path):
    """In a process of its own; its imports do not count."""
    exec(IMPORTS.get(name, ""))
    cpu, begun = cpu_seconds(), time.perf_counter()
    PEERS[name](path)
    print(json.dumps({"seconds": time.perf_counter() - begun, "cpu_seconds": cpu_seconds() - cpu}))


def run_json(*command):
    done = subprocess.run([str(x) for x in command], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{command[0]}: {done.stderr}")
    return json.loads(done.stdout[done.stdout.index("{") :])


class Bench:
    def __init__(self, options, weights):
        self.options, self.weights = options, weights
        self.size = weights.stat().st_size
        self.rounds = []
        self.peers = [x for x in PEERS if self.can_import(x)]
        self.depth = max(DEPTHS, key=lambda x: self.size / self.fio(x)["seconds"])

    def can_import(self, name):
        command = [self.options.python, "-c", IMPORTS.get(name, "")]
        return subprocess.run(command, capture_output=True).returncode == 0

    def rest(self):
        drop_cache(self.weights)
        time.sleep(self.options.pause)

    def fio(self, depth):
        self.rest()
        told = run_json(
            "fio", "--name=floor", f"--filename={self.weights}", "--rw=read", "--direct=1",
            "--ioengine=io_uring", f"--bs={BLOCK}", f"--iodepth={depth}", "--thread",
            "--output-format=json",
        )["jobs"][0]  # fmt: skip
        seconds = self.size / told["read"]["bw_bytes"]
        return {
            "seconds": seconds,
            "cpu_seconds": (told["usr_cpu"] + told["sys_cpu"]) / 100 * seconds,
        }

    def load(self, share, fresh=False):
        if fresh:
            POOL.unlink(missing_ok=True)
        self.rest()
        return run_json(
            self.options.bin / "load_bench", "--load", self.weights, POOL, "0" if fresh else share
        )

    def peer(self, name):
        self.rest()
        return run_json(self.options.python, __file__, "--peer", name, self.weights)

    def round(self, number):
        work = {f"fio, {BLOCK >> 10} KiB, depth {self.depth}": lambda: self.fio(self.depth)}
        work["disk -> pool, its memory made on the way"] = lambda: self.load(0, fresh=True)
        for share in SHARES:
            work[row_of(share)] = lambda share=share: self.load(share)
        for name in self.peers:
            work[name] = lambda name=name: self.peer(name)
        order = list(work)
        random.Random(number).shuffle(order)
        self.load(1)  # so that the pool holds all whatever comes first
        self.rounds.append({name: work[name]() for name in order})

    def column(self, name, value):
        return [value(x[name]) for x in self.rounds]

    def print_rates(self):
        floor = next(iter(x for x in self.rounds[0] if x.startswith("fio")))
        rows = [floor, row_of(0), "disk -> pool, its memory made on the way", *self.peers]
        print("| what | GB/s | of fio | cores busy |\n| --- | --- | --- | --- |")
        for name in rows:
            rates = self.column(name, lambda x: self.size / x["seconds"])
            part = [x[floor]["seconds"] / x[name]["seconds"] for x in self.rounds]
            cores = statistics.median(self.column(name, lambda x: x["cpu_seconds"] / x["seconds"]))
            print(f"| {name} | {spread(rates, 1e-9)} | {spread(part, 100, 0)} % | {cores:.2f} |")
        print("\nGoal of disk -> pool: 95 % of fio, 1 core.\n")
        return floor

    def print_shares(self, floor):
        print("| in the pool | seconds | floor | of the floor |\n| --- | --- | --- | --- |")
        for share in SHARES:
            seconds = self.column(row_of(share), lambda x: x["seconds"])
            floors = [
                max((1 - share) * x[floor]["seconds"], x[row_of(1)]["seconds"]) for x in self.rounds
            ]
            ratios = [a / b for a, b in zip(seconds, floors)]
            print(
                f"| {share:.0%} | {spread(seconds, 1, 3)} | {spread(floors, 1, 3)} |"
                f" {spread(ratios)} |"
            )
        print("\nGoal: 1.1 times the floor.")


def row_of(share):
    return f"disk -> pool, {share:.0%} held" if share else "disk -> pool"


def main():
    if sys.argv[1:2] == ["--peer"]:
        return be_peer(sys.argv[2], sys.argv[3])
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bin", type=pathlib.Path)
    parser.add_argument("directory", type=pathlib.Path)
    parser.add_argument("--gigabytes", type=float, default=1.2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pause", type=float, default=4)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--disk-mbps", type=float, help="hold the disk to this rate")
    options = parser.parse_args()
    if shutil.which("fio") is None:
        raise SystemExit("fio is missing: install the packages of tests/bench/debian-packages.txt")
    weights = make_model(options.directory / "coldstart-model", options.gigabytes)
    try:
        with disk_at(options.directory, options.disk_mbps):
            bench = Bench(options, weights)
            for number in range(options.rounds):
                bench.round(number)
    finally:
        POOL.unlink(missing_ok=True)
        shutil.rmtree(f"{POOL}.sums", ignore_errors=True)
    print(f"{bench.size / 1e9:.2f} GB, {options.rounds} rounds, {os.cpu_count()} cores\n")
    bench.print_shares(bench.print_rates())


if __name__ == "__main__":
    main()
