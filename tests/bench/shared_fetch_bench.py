"""Measures several nodes that load the same model at the same time from one origin of a given rate:
until the last of them has answered, and how much the origin sent. From a hub, which vouches for a
sha256; from a web server, whose ETags say that parts are of the same bytes; and, as nothing else keeps
nodes from sharing, each for itself from one whose ETags are weak.

usage: python3 tests/bench/shared_fetch_bench.py path/to/troupe DIRECTORY [--nodes 4]
       [--gigabytes 0.3] [--megabytes-per-second 40] [--node-megabytes-per-second 200] [--rounds 3]

Makes a model in DIRECTORY, as coldstart_bench.py does, and keeps there what the nodes fetch; their pools
are in /dev/shm. All nodes are processes of this machine: a head, which has no weights, and its workers,
each with a home of its own, which send no more than their rate (cluster.data_rate). The floor is
reading the bytes once over the link, in the same round; the bound adds the rounds in which the last
piece (4 MiB) gets from one node to all, each of which doubles those that have it. For nodes that do not
share, it is as many times the floor. The origin goes first, as in remote_bench.py. Medians over the
rounds, with minimum and maximum.
"""

import argparse
import contextlib
import hashlib
import json
import math
import multiprocessing
import os
import pathlib
import shutil
import statistics
import subprocess
import threading
import time
import urllib.request

from coldstart_bench import make_model
from pull_bench import FastHub, FileBody
from remote_bench import ShapedServer, go_first, read_plainly
from serve_bench import spread

PIECE = 4 << 20
HUB, WEB, WEAK = "from a hub", "from a web server with ETags", "each for itself (weak ETags)"


class Origin(ShapedServer):
    """Counts what it sends of weights."""

    def __init__(self, rate, sent, weak=False):
        super().__init__(rate)
        self.counted, self.weak = sent, weak

    def etag(self, path):
        return ("W/" if self.weak else "") + super().etag(path)

    def send_body(self, handler, path, body):
        super().send_body(handler, path, body)
        if isinstance(body, FileBody):
            with self.counted.get_lock():
                self.counted.value += len(body)


def serve_origins(model, digest, rate, sent, tell):
    first = go_first()
    weights = model / "model.safetensors"
    small = {p.name: p.read_bytes() for p in model.iterdir() if p.name != weights.name}
    hub = FastHub(small, weights, digest)
    hub.storage.close()
    hub.storage = Origin(rate, sent)
    hub.storage.files[f"/{digest}"] = FileBody(weights)
    webs = [Origin(rate, sent, weak) for weak in (False, True)]
    for web in webs:
        web.files |= {f"/big/{path}": data for path, data in small.items()}
        web.files["/big/model.safetensors"] = FileBody(weights)
    blob = f"{hub.storage.url}/{digest}"
    tell.put((hub.url, [f"{web.url}/big" for web in webs], blob, first))
    threading.Event().wait()


def ask(url, path, body=None):
    request = urllib.request.Request(url + path, data=body and json.dumps(body).encode())
    request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, timeout=600) as answer:
        return answer.read().decode()


def until(condition):
    while not (value := condition()):
        time.sleep(0.02)
    return value


class Cluster:
    """A head and its workers, none of which has anything of the model."""

    def __init__(self, binary, place, pools, source, options):
        self.binary, self.place, self.pools = binary, place, pools
        self.processes = []
        for one in (place, pools):
            shutil.rmtree(one, ignore_errors=True)
            one.mkdir(parents=True)
        os.sync()
        head = self.start(
            "role: head\ncluster: {listen: '127.0.0.1:0'}\n"
            f"models: {{big: {{source: '{source}', replicas: {options.nodes}}}}}\n"
        )
        port = until(lambda: (head / "port").exists() and (head / "port").read_text().strip())
        self.url = f"http://127.0.0.1:{port}"
        marker = "--role worker --join "
        until(lambda: marker in (head / "log").read_text())
        join = (head / "log").read_text().split(marker)[1].split()[0]
        memory = int(options.gigabytes * 1.2e9) + (64 << 20)
        rate = int(options.node_megabytes_per_second * 1e6)
        for i in range(options.nodes):
            (pools / str(i)).mkdir()
            self.start(
                f"role: worker\ncluster: {{join: '{join}', data_rate: {rate}}}\n"
                f"storage: {{pool: {pools}/{i}, pool_memory: {memory}}}\n"
            )
        until(lambda: f"\ntroupe_workers {options.nodes}\n" in ask(self.url, "/metrics"))

    def start(self, config):
        home = self.place / str(len(self.processes))
        home.mkdir()
        (home / "troupe.yaml").write_text(config)
        words = [self.binary, "serve", "--config", home / "troupe.yaml", "--port", "0"]
        with (home / "log").open("w") as log:
            self.processes.append(
                subprocess.Popen(
                    [*words, "--port-file", home / "port"],
                    stdout=log,
                    stderr=log,
                    cwd=home,
                    env=os.environ | {"HOME": str(home)},
                )
            )
        return home

    def answer(self, prompt):
        ask(self.url, "/v1/completions", {"model": "big", "prompt": prompt, "max_tokens": 1})

    def seconds_to_last_answer(self, nodes):
        """From a cold request; asks again, and each time another thing, until all have answered."""
        begun, asked = time.perf_counter(), 0
        while True:
            prompts = [str(asked + i) for i in range(nodes)]
            wave = [threading.Thread(target=self.answer, args=(one,)) for one in prompts]
            for one in wave:
                one.start()
            for one in wave:
                one.join()
            seconds, asked = time.perf_counter() - begun, asked + nodes
            records = json.loads(ask(self.url, "/admin/requests"))["data"]
            if len({x["worker"] for x in records}) == nodes:
                return seconds
            time.sleep(0.02)

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()
            process.wait()
        for one in (self.place, self.pools):
            shutil.rmtree(one)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("binary", type=lambda x: pathlib.Path(x).resolve())
    parser.add_argument("directory", type=pathlib.Path)
    parser.add_argument("--nodes", type=int, default=4)
    parser.add_argument("--gigabytes", type=float, default=0.3)
    parser.add_argument("--megabytes-per-second", type=float, default=40)
    parser.add_argument("--node-megabytes-per-second", type=float, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    place = options.directory.resolve()
    weights = make_model(place / "shared-fetch-model", options.gigabytes)
    size = weights.stat().st_size
    with weights.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    told, sent = multiprocessing.Queue(), multiprocessing.Value("q", 0)
    rate = options.megabytes_per_second * 1e6
    origin = multiprocessing.Process(
        target=serve_origins, args=(weights.parent, digest, rate, sent, told), daemon=True
    )
    origin.start()
    endpoint, (web, weak), blob, first = told.get()
    os.environ |= {"HF_ENDPOINT": endpoint, "no_proxy": "*"}
    pools = pathlib.Path("/dev/shm/troupe-shared-fetch-bench")
    floors, rows = [], {}
    for _ in range(options.rounds):
        floors.append(read_plainly(blob, size))
        for name, source in ((HUB, "hf://acme/big"), (WEB, web), (WEAK, weak)):
            with Cluster(options.binary, place / "nodes", pools, source, options) as cluster:
                sent.value = 0
                seconds = cluster.seconds_to_last_answer(options.nodes)
                rows.setdefault(name, []).append((seconds, sent.value / size))
    origin.terminate()
    floor = statistics.median(floors)
    handed = math.ceil(math.log2(options.nodes)) * PIECE / options.node_megabytes_per_second / 1e6
    print(
        f"{size / 1e9:.2f} GB to {options.nodes} nodes, {options.rounds} rounds, origin"
        f" {rate / 1e6:.0f} MB/s, nodes {options.node_megabytes_per_second:.0f} MB/s, the origin"
        f" {'goes first' if first else 'shares the cores'}\n"
    )
    print("| what | seconds until the last has answered | of the bound | copies sent |")
    print("| --- | --- | --- | --- |")
    print(f"| floor: the bytes once over the link | {spread(floors)} | | 1 |")
    for name, figures in rows.items():
        bound = options.nodes * floor if name == WEAK else floor + handed
        seconds = [x[0] for x in figures]
        part = statistics.median(seconds) / bound
        print(f"| {name} | {spread(seconds)} | {part:.2f} | {spread([x[1] for x in figures])} |")


if __name__ == "__main__":
    main()
