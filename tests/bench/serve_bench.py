"""Measures a whole `troupe serve`: start to ready, resident memory, idle CPU, cold request to first
token, warm time to first token, dispatch latency. Prints one table with floors and ratios.

usage: python3 tests/bench/serve_bench.py path/to/troupe [--models 100] [--rounds 5]
Standard library only. Medians over the rounds, with minimum and maximum.
"""

import argparse
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import statistics
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples" / "models"


def spread(values, scale=1.0, digits=2):
    values = sorted(v * scale for v in values)
    return (
        f"{statistics.median(values):.{digits}f} [{values[0]:.{digits}f}..{values[-1]:.{digits}f}]"
    )


class Server:
    """One `troupe serve` over `roots`, stopped when the block ends."""

    def __init__(self, binary, roots, *flags):
        self.scratch = tempfile.mkdtemp()
        port_file = pathlib.Path(self.scratch, "port")
        self.log = open(pathlib.Path(self.scratch, "log"), "wb")
        self.started = time.perf_counter()
        self.process = subprocess.Popen(
            [
                binary,
                "serve",
                "--no-hub-cache",
                "--port",
                "0",
                "--port-file",
                str(port_file),
                *flags,
                *map(str, roots),
            ],
            stdout=self.log,
            stderr=self.log,
        )
        while not (port_file.exists() and port_file.read_text().strip()):
            if self.process.poll() is not None:
                raise SystemExit(pathlib.Path(self.scratch, "log").read_text())
            time.sleep(0.0005)
        self.port = int(port_file.read_text())
        while self.get("/ready")[0] != 200:
            if self.process.poll() is not None:
                raise SystemExit(pathlib.Path(self.scratch, "log").read_text())
            time.sleep(0.0005)
        self.ready_seconds = time.perf_counter() - self.started

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)
        self.log.close()
        shutil.rmtree(self.scratch)

    def get(self, path):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except ConnectionError:
            return 0, ""
        finally:
            connection.close()

    def post(self, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
        connection.request(
            "POST", path, json.dumps(body or {}), {"Content-Type": "application/json"}
        )
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, text

    def resident_bytes(self):
        text = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", text).group(1)) * 1024

    def cpu_seconds(self):
        fields = (
            pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        )
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def first_token_seconds(self, model, max_tokens=8):
        """Seconds to the first SSE byte and to the first text of a streamed chat."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
        body = {
            "model": model,
            "stream": True,
            "temperature": 0,
            "max_tokens": max_tokens,
            "messages": [{"role": "user", "content": "Hello!"}],
        }
        begun = time.perf_counter()
        connection.request(
            "POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"}
        )
        answer = connection.getresponse()
        if answer.status != 200:
            raise SystemExit(f"{answer.status}: {answer.read().decode()}")
        first_byte = first_text = None
        for line in answer:
            if first_byte is None:
                first_byte = time.perf_counter() - begun
            if (
                line.startswith(b"data: {")
                and b'"content":"' in line
                and b'"content":""' not in line
            ):
                first_text = time.perf_counter() - begun
                break
        answer.read()
        connection.close()
        return first_byte, first_text if first_text is not None else time.perf_counter() - begun


def histogram_quantile(metrics, family, q):
    """Upper bound of the bucket that holds quantile `q` of a Prometheus histogram, labels summed."""
    buckets = {}
    for line in metrics.splitlines():
        match = re.match(rf'{family}_bucket{{(?:.*,)?le="([^"]+)"}} (\d+)', line)
        if match:
            bound = float(match.group(1).replace("+Inf", "inf"))
            buckets[bound] = buckets.get(bound, 0) + int(match.group(2))
    total = max(buckets.values(), default=0)
    for bound in sorted(buckets):
        if total and buckets[bound] >= q * total:
            return bound
    return float("nan")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("binary")
    parser.add_argument("--models", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--warm-requests", type=int, default=200)
    options = parser.parse_args()
    sources = sorted(p.parent for p in EXAMPLES.glob("*/config.json"))
    scratch = pathlib.Path(tempfile.mkdtemp())
    many = scratch / "many"
    many.mkdir()
    for i in range(options.models):
        shutil.copytree(sources[i % len(sources)], many / f"model-{i:03}")

    ready, resident, cold_byte, cold_text, warm = [], [], [], [], []
    idle_share = float("nan")
    for i in range(options.rounds):
        with Server(options.binary, [many]) as server:
            ready.append(server.ready_seconds)
            resident.append(server.resident_bytes())
            if i == 0:
                before = server.cpu_seconds()
                time.sleep(5)
                idle_share = (server.cpu_seconds() - before) / 5
    with Server(options.binary, [EXAMPLES]) as server:
        model = sources[-1].name
        for _ in range(options.rounds):
            server.post(f"/admin/models/{model}/unload")
            byte, text = server.first_token_seconds(model)
            cold_byte.append(byte)
            cold_text.append(text)
        for _ in range(options.warm_requests):
            warm.append(server.first_token_seconds(model, 1)[1])
        metrics = server.get("/metrics")[1]
    warm.sort()
    dispatch = [
        histogram_quantile(metrics, "troupe_request_dispatch_seconds", q) for q in (0.5, 0.99)
    ]
    shutil.rmtree(scratch)

    rows = [
        (f"start to ready, {options.models} cold models, ms", spread(ready, 1e3, 1), "goal < 100"),
        (f"resident memory then, MiB", spread(resident, 2**-20, 1), "goal < 50"),
        ("idle CPU, % of one core", f"{idle_share * 100:.2f}", "goal < 0.5"),
        (f"cold request ({model}) to first SSE byte, ms", spread(cold_byte, 1e3, 1), "goal <= 100"),
        (f"cold request ({model}) to first text, ms", spread(cold_text, 1e3, 1), ""),
        (
            f"warm request ({model}) to first text, ms, p50 / p99",
            f"{statistics.median(warm) * 1e3:.2f} / {warm[int(len(warm) * 0.99) - 1] * 1e3:.2f}",
            "",
        ),
        (
            "dispatch (HTTP accepted to worker), ms, p50 / p99 at most",
            f"{dispatch[0] * 1e3:.3g} / {dispatch[1] * 1e3:.3g}",
            "goal p99 <= 1",
        ),
    ]
    width = max(len(r[0]) for r in rows)
    for name, value, goal in rows:
        print(f"{name:<{width}}  {value:<28} {goal}")


if __name__ == "__main__":
    main()
