"""Kills `troupe serve` at random moments of a load, again and again, and counts what is read twice.

usage: python3 tests/bench/load_kills.py path/to/troupe DIRECTORY [--kills 200] [--gigabytes 1.2] [--seed 1]

Makes a model in DIRECTORY (on the disk that is meant) unless it is there already. A server is asked for
it with a cold page cache and killed (SIGKILL) once it has read some more of it; its successor finds the
host pool as it was left, and so on until one has loaded all and answers. Every answer, its tokens'
probabilities included, has to be that of a server without a pool. Then the pool is emptied and all
begins anew, until there were enough kills. Bytes count as read when the kernel asked the disk for them.
Standard library only.
"""

import argparse
import http.client
import json
import os
import pathlib
import random
import shutil
import statistics
import threading
import time

from coldstart_bench import bytes_read, drop_cache, make_model
from serve_bench import Server, spread

POOL = pathlib.Path("/dev/shm/troupe-load-kills")
PROMPT = {"prompt": "Once upon a time", "max_tokens": 8, "temperature": 0, "logprobs": 3}


class Question(threading.Thread):
    """One request; `answer` stays empty when its server died."""

    def __init__(self, server, model):
        super().__init__()
        self.server, self.model, self.answer = server, model, None
        self.start()

    def run(self):
        try:
            status, text = self.server.post("/v1/completions", PROMPT | {"model": self.model})
        except (OSError, http.client.HTTPException):
            return
        if status == 200:
            self.answer = json.loads(text)["choices"]


class Soak:
    def __init__(self, binary, model, weights, dice):
        self.binary, self.model, self.weights, self.dice = binary, model, weights, dice
        self.size = weights.stat().st_size
        self.ready = []
        os.environ["TROUPE_STORAGE_POOL"] = "false"
        with Server(binary, [model]) as server:
            self.right = self.ask(server)
        os.environ["TROUPE_STORAGE_POOL"] = str(POOL)

    def ask(self, server):
        question = Question(server, self.model.name)
        question.join()
        return question.answer

    def one_process(self):
        """Starts a server and asks it. Gives the bytes it read, and whether it was killed."""
        drop_cache(self.weights)
        until = self.size * self.dice.uniform(0.0, 0.15)
        with Server(self.binary, [self.model]) as server:
            self.ready.append(server.ready_seconds)
            question = Question(server, self.model.name)
            while question.is_alive() and bytes_read(server.process) < until:
                time.sleep(0.0002)
            if question.is_alive():
                server.process.kill()
                os.waitid(os.P_PID, server.process.pid, os.WEXITED | os.WNOWAIT)
            question.join()
            if question.answer is not None and question.answer != self.right:
                raise SystemExit(f"{question.answer} instead of {self.right}")
            return bytes_read(server.process), question.answer is None

    def one_model(self, kills_left):
        """Loads the model once; gives the number of kills and the bytes that were read twice."""
        for file in POOL.iterdir():
            file.unlink()
        kills, total = 0, 0
        while kills < kills_left:
            some, killed = self.one_process()
            total += some
            kills += killed
            if not killed:
                return kills, total - self.size
        drop_cache(self.weights)
        with Server(self.binary, [self.model]) as server:
            if self.ask(server) != self.right:
                raise SystemExit("the last answer is not the right one")
            return kills, total + bytes_read(server.process) - self.size


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("binary")
    parser.add_argument("directory", type=pathlib.Path)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--gigabytes", type=float, default=1.2)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    model = options.directory / "coldstart-model"
    weights = make_model(model, options.gigabytes)
    os.environ["XDG_CACHE_HOME"] = str(options.directory / "kills-cache")
    os.environ["TROUPE_STORAGE_POOL_MEMORY"] = str(int(weights.stat().st_size * 1.2) + (64 << 20))
    POOL.mkdir(exist_ok=True)
    try:
        soak = Soak(options.binary, model, weights, random.Random(options.seed))
        kills, models, shares = 0, 0, []
        while kills < options.kills:
            some, again = soak.one_model(options.kills - kills)
            kills, models = kills + some, models + 1
            if some:
                shares.append(100 * again / some / soak.size)
    finally:
        shutil.rmtree(POOL)
    print(
        f"{kills} kills (seed {options.seed}), {models} loads of {soak.size / 1e9:.2f} GB, all right"
    )
    print(
        f"read twice for each kill: median {statistics.median(shares):.2f} %, most"
        f" {max(shares):.2f} % of the model (goal: 1 %), median"
        f" {statistics.median(shares) * soak.size / 100 / 2**20:.1f} MiB"
    )
    print(f"start to ready with what was left behind, ms: {spread(soak.ready, 1e3, 1)}")


if __name__ == "__main__":
    main()
