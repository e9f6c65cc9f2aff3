"""What tenants get of one real engine: shares by weight, and what a greedy one does to a modest one.

usage: python3 tests/bench/tenants_bench.py path/to/troupe shares|isolation [--model DIRECTORY]
           [--rounds 2] [--requests 60] [--prompt 64] [--output 8] [--tokens 200000] ...

shares:    three tenants of weights 1, 2 and 4 that always have requests waiting; what each got of
           the tokens.
isolation: a modest tenant sends one request after the other, by itself and beside a greedy tenant of
           the same weight that keeps `--factor` times as many requests open as run at once. Time to
           first token of the modest one; the goal for its p99 is 1.3 times the one by itself plus
           one step of the full batch (the median gap between its tokens then). Rounds alternate.

The clients share the machine with the server. Standard library only.
"""

import argparse
import http.client
import json
import multiprocessing
import os
import pathlib
import random
import socket
import statistics
import sys
import tempfile
import threading
import time

import serve_bench

ROOT = pathlib.Path(__file__).resolve().parents[2]
WEIGHTS = {"one": 1, "two": 2, "four": 4}
TENANTS = ("modest", "greedy", *WEIGHTS)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    add = parser.add_argument
    add("troupe")
    add("what", choices=("shares", "isolation"))
    add("--model", default=str(ROOT / "examples/models/stories-llama"))
    add("--rounds", type=int, default=2)
    add("--requests", type=int, default=60, help="of the modest tenant, per round")
    add("--prompt", type=int, default=64, help="tokens")
    add("--output", type=int, default=8, help="tokens of the modest tenant's answers")
    add("--greedy-output", type=int, default=64)
    add("--places", type=int, default=16, help="engine.sequences_max")
    add("--factor", type=int, default=10)
    add("--tokens", type=int, default=200_000, help="made in all, for shares")
    return parser.parse_args()


def body_of(given, model, vocabulary, number, output, stream):
    """Prompts differ from their first token on: nothing is found in a cache."""
    chance = random.Random(number)
    return {
        "model": model,
        "prompt": [chance.randrange(3, vocabulary) for _ in range(given.prompt)],
        "max_tokens": output,
        "ignore_eos": True,
        "temperature": 1,
        "seed": number,
        "stream": stream,
    }


def post(port, key, body, connection=None):
    connection = connection or http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer key-{key}"}
    connection.request("POST", "/v1/completions", json.dumps(body), headers)
    answer = connection.getresponse()
    text = answer.read()
    if answer.status != 200:
        raise SystemExit(f"the server answered {answer.status}: {text[:500]!r}")
    return json.loads(text)


def timed_stream(port, key, body):
    """Seconds to the first token and between tokens."""
    text = json.dumps(body | {"stream": True}).encode()
    with socket.create_connection(("127.0.0.1", port)) as wire:
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        head = (
            f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            f"Authorization: Bearer key-{key}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(text)}\r\n\r\n"
        )
        wire.sendall(head.encode() + text)
        sent = time.perf_counter()
        arrivals, seen = [], b""
        while chunk := wire.recv(1 << 16):
            now, seen = time.perf_counter(), seen + chunk
            *whole, seen = seen.split(b"\n\n")
            arrivals += [now] * sum(b'"text":' in x and b'"finish_reason":null' in x for x in whole)
    if len(arrivals) < 2:
        raise SystemExit("an answer had fewer than two tokens")
    return arrivals[0] - sent, [b - a for a, b in zip(arrivals, arrivals[1:])]


def keep_busy(port, key, given, model, vocabulary, clients, stop, made, seed):
    """`clients` requests of a tenant are open until `stop`."""

    def client(number):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
        while not stop.is_set():
            output = given.greedy_output * (2 + number % 5) // 4
            body = body_of(given, model, vocabulary, seed * 1_000_000 + number, output, False)
            used = post(port, key, body, connection)["usage"]["completion_tokens"]
            with made.get_lock():
                if not stop.is_set():
                    made.value += used
            number += clients

    threads = [threading.Thread(target=client, args=(i,)) for i in range(clients)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()


class Load:
    """Tenants that are kept busy by a process each while the block runs."""

    def __init__(self, server, given, model, vocabulary, clients, seed):
        self.stop = multiprocessing.Event()
        self.made = {key: multiprocessing.Value("q", 0) for key in clients}
        self.processes = [
            multiprocessing.Process(
                target=keep_busy,
                args=(server.port, key, given, model, vocabulary, count, self.stop)
                + (self.made[key], seed + i),
            )
            for i, (key, count) in enumerate(clients.items())
        ]

    def __enter__(self):
        for one in self.processes:
            one.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        for one in self.processes:
            one.join()

    def wait_for(self, tokens):
        while sum(x.value for x in self.made.values()) < tokens:
            if not all(x.is_alive() for x in self.processes):
                raise SystemExit("a client has failed")
            time.sleep(0.02)


def quantile(values, part):
    values = sorted(values)
    return values[min(len(values) - 1, int(part * len(values)))]


def shares(server, given, model, vocabulary):
    clients = {key: 3 * given.places for key in WEIGHTS}
    with Load(server, given, model, vocabulary, clients, 1) as load:
        load.wait_for(given.tokens)
        made = {key: x.value for key, x in load.made.items()}
    total, whole = sum(made.values()), sum(WEIGHTS.values())
    for key, weight in WEIGHTS.items():
        share = made[key] / total
        off = share / (weight / whole) - 1
        print(f"weight {weight}: {made[key]} tokens, {share:.4f}, {100 * off:+.1f} % (goal 5 %)")


def isolation(server, given, model, vocabulary):
    numbers = iter(range(10**9, 2 * 10**9))

    def modest():
        out = []
        for _ in range(given.requests):
            body = body_of(given, model, vocabulary, next(numbers), given.output, True)
            out.append(timed_stream(server.port, "modest", body))
        return [x[0] for x in out], [gap for x in out for gap in x[1]]

    solo, together, gaps = [], [], []
    for number in range(given.rounds):
        solo.append(modest()[0])
        greedy = {"greedy": given.factor * given.places}
        with Load(server, given, model, vocabulary, greedy, number) as load:
            load.wait_for(4 * given.places * given.greedy_output)
            first, between = modest()
        together.append(first)
        gaps += between
    step = statistics.median(gaps)
    for name, rounds in (("by itself", solo), ("beside greedy", together)):
        for part in (0.5, 0.99):
            each = [1000 * quantile(x, part) for x in rounds]
            print(f"first token {name}, p{100 * part:.0f}: {serve_bench.spread(each)} ms")
    print(f"one step: {1000 * step:.2f} ms (longest {1000 * max(gaps):.2f})")
    flat = [[x for each in rounds for x in each] for rounds in (solo, together)]
    p99 = [1000 * quantile(x, 0.99) for x in flat]
    goal = 1.3 * p99[0] + 1000 * step
    print(f"p99 of all: {p99[0]:.2f} -> {p99[1]:.2f} ms, goal {goal:.2f}: {p99[1] / goal:.2f} of it")


def main():
    given = arguments()
    directory = pathlib.Path(given.model).resolve()
    vocabulary = json.loads((directory / "config.json").read_text())["vocab_size"]
    keys = {f"KEY_{x.upper()}": f"key-{x}" for x in TENANTS}
    os.environ.update(keys)
    with tempfile.TemporaryDirectory() as scratch:
        settings = pathlib.Path(scratch, "troupe.yaml")
        tenants = "".join(
            f"  {x}: {{keys: [{{env: KEY_{x.upper()}}}], weight: {WEIGHTS.get(x, 1)}}}\n"
            for x in TENANTS
        )
        settings.write_text(
            "log: {level: warn}\nstate_dir: state\n"
            f"engine: {{sequences_max: {given.places}, draft_tokens_max: 0, prefix_cache: false}}\n"
            f"tenants:\n{tenants}"
        )
        flags = ("--config", str(settings))
        with serve_bench.Server(given.troupe, [directory], *flags) as server:
            warm = body_of(given, directory.name, vocabulary, 0, 4, False)
            post(server.port, "modest", warm)
            run = shares if given.what == "shares" else isolation
            run(server, given, directory.name, vocabulary)


if __name__ == "__main__":
    sys.exit(main())
