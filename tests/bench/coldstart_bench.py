"""Measures how long a cold request takes to its first text, by where the weights are: on the disk, in
the page cache, in the host pool, half of them there, in the pool of a server that was restarted, in a
pool of a quarter of their size. Of the last one the memory is told, too: at most, beyond the weights
themselves.

usage: python3 tests/bench/coldstart_bench.py path/to/troupe DIRECTORY [--gigabytes 2.5] [--rounds 5]
       [--disk-mbps 500]

Makes a model in DIRECTORY (on the disk that is meant), unless it is there already: random weights in
the shapes of Llama-3.2-1B with as many layers as it takes, the tokenizer of an example. Every round
goes through all states; the floor of a state is reading the same bytes in the plainest fast way, in
the same round: from the disk, from the page cache, from a file in /dev/shm, or, of two at once, the
longer one. "less a warm request" is the same without what a loaded model takes: goal 1.15. --disk-mbps
holds the disk to that rate, with root (shaped_disk.py). Standard library only. Medians over the rounds,
with minimum and maximum.
"""

import argparse
import collections
import http.client
import json
import mmap
import os
import pathlib
import random
import shutil
import statistics
import struct
import threading
import time

from serve_bench import EXAMPLES, Server, spread
from shaped_disk import disk_at

Sizes = collections.namedtuple("Sizes", "hidden inner heads kv_heads vocabulary")
ONE_B = Sizes(2048, 8192, 32, 8, 32768)  # of Llama-3.2-1B
EIGHT_B = Sizes(4096, 14336, 32, 8, 32768)  # of Llama-3.1-8B
BLOCK = 16 << 20


def shapes(layers, sizes):
    hidden, inner, heads, kv_heads, vocabulary = sizes
    kv = kv_heads * hidden // heads
    yield "model.embed_tokens.weight", (vocabulary, hidden)
    for i in range(layers):
        prefix = f"model.layers.{i}."
        yield prefix + "input_layernorm.weight", (hidden,)
        yield prefix + "self_attn.q_proj.weight", (hidden, hidden)
        yield prefix + "self_attn.k_proj.weight", (kv, hidden)
        yield prefix + "self_attn.v_proj.weight", (kv, hidden)
        yield prefix + "self_attn.o_proj.weight", (hidden, hidden)
        yield prefix + "post_attention_layernorm.weight", (hidden,)
        yield prefix + "mlp.gate_proj.weight", (inner, hidden)
        yield prefix + "mlp.up_proj.weight", (inner, hidden)
        yield prefix + "mlp.down_proj.weight", (hidden, inner)
    yield "model.norm.weight", (hidden,)


def make_model(directory, gigabytes, seed=1, sizes=ONE_B):
    hidden, inner, heads, kv_heads, vocabulary = sizes
    layer = 2 * (2 * hidden * hidden * (heads + kv_heads) // heads + 3 * hidden * inner)
    layers = max(1, round((gigabytes * 1e9 - 2 * vocabulary * hidden) / layer))
    weights = directory / "model.safetensors"
    if weights.exists():
        return weights
    directory.mkdir(parents=True, exist_ok=True)
    example = EXAMPLES / "stories-llama"
    for file in example.iterdir():
        if file.suffix in (".json", ".jinja") and "index" not in file.name:
            shutil.copy(file, directory)
    config = json.loads((example / "config.json").read_text())
    config.update(
        hidden_size=hidden,
        intermediate_size=inner,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=hidden // heads,
        num_hidden_layers=layers,
        vocab_size=vocabulary,
        tie_word_embeddings=True,
        torch_dtype="bfloat16",
    )
    (directory / "config.json").write_text(json.dumps(config))
    header, at = {}, 0
    for name, shape in shapes(layers, sizes):
        size = 2
        for extent in shape:
            size *= extent
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    # Small numbers of both signs: 0x3c.. and 0xbc.. are about +-0.01. Every block is another one, so
    # that none is stored once for several.
    source = random.Random(seed)
    with open(weights, "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        left = at
        while left:
            low = source.randbytes(min(1 << 20, left) // 2)
            block = bytearray(2 * len(low))
            block[0::2] = low
            block[1::2] = low.translate(bytes(0x3C | (i & 0x80) for i in range(256)))
            out.write(block)
            left -= len(block)
        out.flush()
        os.fsync(out.fileno())
    return weights


def drop_cache(path):
    with open(path, "rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read_plainly(path, direct, size=None):
    """Seconds to read a file, or its first `size` bytes."""
    buffer = mmap.mmap(-1, BLOCK)
    descriptor = os.open(path, os.O_RDONLY | (os.O_DIRECT if direct else 0))
    left = size or path.stat().st_size
    begun = time.perf_counter()
    while left > 0:
        left -= os.readv(descriptor, [buffer])
    seconds = time.perf_counter() - begun
    os.close(descriptor)
    return seconds


def peak_bytes(server):
    """The most memory that a server ever had resident, its pool included."""
    status = pathlib.Path(f"/proc/{server.process.pid}/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def bytes_read(process):
    """Bytes that a process, dead or alive, had read from disks."""
    text = pathlib.Path(f"/proc/{process.pid}/io").read_text()
    return int(text.split("\nread_bytes: ")[1].split()[0])


def read_half(server, model, size):
    """Has a server load a model until half of it was read, and kills it."""

    def ask():
        try:
            server.first_token_seconds(model.name, 1)
        except (OSError, http.client.HTTPException):
            pass

    asking = threading.Thread(target=ask)
    asking.start()
    while asking.is_alive() and bytes_read(server.process) < size / 2:
        time.sleep(0.001)
    server.process.kill()
    asking.join()


def held_bytes(server):
    return json.loads(server.get("/admin/models")[1])["pool"]["held_bytes"]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("binary")
    parser.add_argument("directory", type=pathlib.Path)
    parser.add_argument("--gigabytes", type=float, default=2.5)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--pause",
        type=float,
        default=5,
        help="seconds without a read before each one from the disk, for disks that save up bursts",
    )
    parser.add_argument("--disk-mbps", type=float)
    options = parser.parse_args()
    model = options.directory / "coldstart-model"
    weights = make_model(model, options.gigabytes)
    other = options.directory / "coldstart-other"  # of other bytes: equal chunks are held once
    make_model(other, options.gigabytes, 2)
    with disk_at(options.directory, options.disk_mbps):
        measure(options, model, weights, other)


def measure(options, model, weights, other):
    pool = pathlib.Path("/dev/shm/troupe-coldstart-bench")
    pool.mkdir(exist_ok=True)
    size = weights.stat().st_size
    large, small = int(size * 1.2) + (64 << 20), size // 4
    os.environ["XDG_CACHE_HOME"] = str(options.directory / "coldstart-cache")

    results, floors = {}, {}

    def note(name, seconds, floor=None):
        results.setdefault(name, []).append(seconds)
        if floor:
            floors.setdefault(name, []).append(floor)

    def rest():
        drop_cache(weights)
        time.sleep(options.pause)

    def cold(server):
        server.post(f"/admin/models/{model.name}/unload")
        return server.first_token_seconds(model.name, 1)[1]

    def empty():
        for file in pool.iterdir():
            file.unlink()

    beyond = []
    ways = [("pool", str(pool)), ("mapped", "false")]
    for _ in range(options.rounds):
        rest()
        disk = read_plainly(weights, True)
        note("floor: plain O_DIRECT reads", disk)
        empty()
        os.environ["TROUPE_STORAGE_POOL_MEMORY"] = str(large)
        ways.reverse()  # none is always the first after the floor
        for name, setting in ways:
            os.environ["TROUPE_STORAGE_POOL"] = setting
            with Server(options.binary, [model]) as server:
                rest()
                note(f"{name}: from the disk", cold(server), disk)
                note("warm request (resident)", server.first_token_seconds(model.name, 1)[1])
                again = cold(server)
            if setting == "false":
                cached = read_plainly(weights, False)
                note("floor: plain reads from the page cache", cached)
                note("mapped: from the page cache", again, cached)
                continue
            shared = read_plainly(next(pool.iterdir()), False, size)
            note("floor: plain reads from /dev/shm", shared)
            note("pool: from the pool", again, shared)
            with Server(options.binary, [model]) as server:
                drop_cache(weights)
                note("pool: from the pool, after a restart", cold(server), shared)
        os.environ["TROUPE_STORAGE_POOL"] = str(pool)
        empty()
        rest()
        with Server(options.binary, [model]) as server:
            read_half(server, model, size)
        with Server(options.binary, [model]) as server:
            share = held_bytes(server) / size
            rest()
            half = max((1 - share) * disk, share * shared)
            note("pool: half of it there, after a start", cold(server), half)
        empty()
        rest()
        os.environ["TROUPE_STORAGE_POOL_MEMORY"] = str(large + size)
        with Server(options.binary, [model]) as server:
            read_half(server, model, size)
        with Server(options.binary, [model, other]) as server:
            share = held_bytes(server) / size
            server.first_token_seconds(other.name, 1)
            server.post(f"/admin/models/{other.name}/unload")
            rest()
            half = max((1 - share) * disk, share * shared)
            note("pool: half of it there, after another model", cold(server), half)
        os.environ["TROUPE_STORAGE_POOL_MEMORY"] = str(large)
        read_plainly(weights, False)
        empty()
        with Server(options.binary, [model]) as server:
            note("pool: mapped from the page cache, verified", cold(server), cached)
        os.environ["TROUPE_STORAGE_POOL_MEMORY"] = str(small)
        empty()
        with Server(options.binary, [model]) as server:
            rest()
            note("pool of a quarter: from the disk", cold(server), disk)
            beyond.append(peak_bytes(server) - size)
    shutil.rmtree(pool)
    print(f"{size / 1e9:.2f} GB, cold request to first text, {options.rounds} rounds\n")
    print("| state | seconds | GB/s | of the floor | less a warm request |")
    print("| --- | --- | --- | --- | --- |")
    warm = statistics.median(results["warm request (resident)"])
    for name, seconds in results.items():
        rate = size / statistics.median(seconds) / 1e9
        ratios = [
            spread([(a - less) / b for a, b in zip(seconds, floors[name])]) if name in floors else ""
            for less in (0, warm)
        ]
        print(f"| {name} | {spread(seconds, 1, 3)} | {rate:.2f} | {ratios[0]} | {ratios[1]} |")
    print(
        f"\nMost memory beyond the weights with a pool of {small >> 20} MiB:"
        f" {spread(beyond, 2**-20, 0)} MiB"
    )


if __name__ == "__main__":
    main()
