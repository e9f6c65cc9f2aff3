"""Runs every check of the CUDA backend on a machine that has a GPU and prints one table: what was
measured, the floor or ceiling it is held against, and the goal.

usage: bench-gpu [--device cuda:0] [--quick] [--scratch DIRECTORY] [--only PART,...]

Parts: checks, decode, prefill, attention, upload, cold, start. Each runs by itself: one that fails is
named, and the others go on. Where this Python can import a PyTorch that sees the GPU, the same work is
measured with it, too. With --device cpu everything but that runs without a GPU, --quick takes small
shapes. Standard library only.

Exit codes: 0 every part ran (the table says which goals were met), 1 a part failed, 2 wrong usage,
6 there is no such device.
"""

import argparse
import glob
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import coldstart_bench
from serve_bench import Server

HERE = pathlib.Path(__file__).resolve().parent
NO_DEVICE = 6
GROWTH_MIB = 64  # what allocators keep back differs by so much from one moment to the next


class Failure(Exception):
    """A part that cannot be measured, in one line."""


class Run:
    """What was asked for, and the rows so far."""

    def __init__(self, given):
        self.given = given
        self.rows = []
        self.reports = []
        self.link = None  # bytes a second from pinned memory
        self.peers = {}

    def row(self, part, what, measured, floor="", share=None, goal="", met=None):
        verdict = "" if met is None else ("met" if met else "MISSED")
        shown = "" if share is None else f"{share * 100:.1f} %"
        self.rows.append((part, what, measured, floor, shown, goal, verdict))

    def troupe(self, *words, seconds=1800):
        done = subprocess.run(
            [self.given.binary, *words], capture_output=True, text=True, timeout=seconds
        )
        if done.returncode != 0:
            raise Failure(f"troupe {' '.join(words)}: {last_line(done.stderr)}")
        return done.stdout

    def bench(self, shape, *words):
        shape = "tiny" if self.given.quick else shape
        report = json.loads(
            self.troupe("bench", shape, "--device", self.given.device, "-o", "json", *words)
        )
        self.reports.append(report)
        for one in report["ceilings"]["link"]:
            if one["name"] == "pinned host memory to device":
                self.link = max(self.link or 0, one["bytes_per_second"])
        return report

    def peer(self, name):
        return self.peers.get(name)


def last_line(text):
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"


def first_failure(text):
    """The first line of GoogleTest's output that says what is wrong."""
    lines = [line for line in text.splitlines() if "Failure" in line or "FAILED" in line]
    return lines[0] if lines else last_line(text)


def percentile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * share))]


def ceilings(report):
    """"memory 3350 GB/s (how)" and "products 800 TFLOP/s (how)", the best of each."""
    reads = report["ceilings"]["read"]
    computes = [one for one in report["ceilings"]["compute"] if one["name"].startswith("bf16")]
    memory = max(reads, key=lambda x: x["bytes_per_second"], default=None)
    compute = max(computes, key=lambda x: x["ops_per_second"], default=None)
    return (
        f"{memory['bytes_per_second'] / 1e9:.1f} GB/s ({memory['pattern']})" if memory else "",
        f"{compute['ops_per_second'] / 1e12:.2f} TFLOP/s ({compute['name']})" if compute else "",
    )


def checks(run):
    devices = json.loads(run.troupe("devices", "-o", "json"))
    own = next((one for one in devices if one["id"] == run.given.device), None)
    if own is None or "problem" in own:
        raise Failure(f"self-check of {run.given.device}: {own and own['problem']}")
    run.row("checks", f"self-check of {own['id']} ({own['name']})", "passed")
    if not run.given.device.startswith("cuda"):
        return
    test = run.given.cuda_test
    if not test or not os.access(test, os.X_OK):
        raise Failure("cuda_test is not beside the binary: build it, or name it with --cuda-test")
    done = subprocess.run(
        [test, "--gtest_brief=1"], capture_output=True, text=True, timeout=1800
    )
    passed = re.search(r"PASSED  ] ([1-9][0-9]* tests?)", done.stdout)
    if done.returncode != 0 or not passed:
        raise Failure(f"cuda_test: {first_failure(done.stdout + done.stderr)}")
    run.row("checks", "every op against its CPU twin (cuda_test)", f"{passed[1]} passed")
    sanitize(run, test)


# Small shapes of every family of kernels: under a sanitizer each access costs a hundred times as much.
SANITIZED = ":".join(
    f"*{name}*"
    for name in (
        "blocks_of_a_file_are_made_into_smaller_ones",
        "rows_are_looked_up_as_the_reference_reads_them",
        "scales_that_are_no_number_reach_the_output",
        "an_int8_cache_holds_the_same_bits_as_the_references",
        "a_broken_token_of_an_int8_cache",
        "rms_norm_matches_the_reference",
        "rope_matches_the_reference",
        "gather_rows_copies_the_named_rows",
    )
)
SANITIZER_FOUND = 99


def sanitize(run, test):
    """Runs a part of `test` under the tools of compute-sanitizer, where there is one."""
    places = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/cuda/bin"])
    sanitizer = shutil.which("compute-sanitizer", path=places)
    for tool in ("memcheck", "racecheck", "initcheck"):
        what = f"a part of cuda_test under {tool}"
        if not sanitizer:
            run.row("checks", what, "no compute-sanitizer on this machine")
            continue
        done = subprocess.run(
            [sanitizer, "--tool", tool, "--error-exitcode", str(SANITIZER_FOUND)]
            + [test, f"--gtest_filter={SANITIZED}", "--gtest_brief=1"],
            capture_output=True,
            text=True,
            timeout=1800,
        )
        if done.returncode == SANITIZER_FOUND:
            said = (line.strip("= ") for line in done.stdout.splitlines() if line[:5] == "=====")
            found = [line for line in said if line and "COMPUTE-SANITIZER" not in line]
            raise Failure(f"{tool}: {found[0] if found else last_line(done.stdout)}")
        if done.returncode != 0 or not re.search(r"PASSED  ] [1-9]", done.stdout):
            raise Failure(f"cuda_test under {tool}: {first_failure(done.stdout + done.stderr)}")
        run.row("checks", what, "found nothing")


def both_products(run, part, shape, dtype, *words):
    """What a table calls a way to multiply many rows, and its report; only a GPU has two ways."""
    words = ["--dtype", dtype, *words]
    yield "", run.bench(shape, *words)
    if not run.given.device.startswith("cuda"):
        return
    name = ", products: fastest"
    report = run.bench(shape, *words, "--products", "fastest")
    if "cuBLASLt" in report["machine"]["device"]:
        yield name, report
    else:
        run.row(part, f"{shape} {dtype}{name}", "no cuBLASLt on this machine")


def decode(run):
    for shape, dtype in (
        ("llama-3.1-8b", "bf16"),
        ("llama-3.1-8b", "int8"),
        ("llama-3.1-8b", "int4"),
        ("llama-3.2-1b", "bf16"),
        ("qwen2.5-0.5b", "bf16"),
    ):
        words = ["--batch", "1,64", "--context", "1024", "--tokens", "32"]
        if run.given.quick:
            words = ["--batch", "1,4", "--context", "32", "--tokens", "4", "--reps", "2"]
        words = ["--measure", "decode", *words]
        for name, report in both_products(run, "1 decode", shape, dtype, *words):
            decode_rows(run, shape, dtype, name, report)


def decode_rows(run, shape, dtype, name, report):
    counts = shape == "llama-3.1-8b" and dtype == "bf16"
    memory, compute = ceilings(report)
    for one in report["results"]:
        share = max(one["read_share"], one["compute_share"])
        goal = 0.88 if one["batch"] == 1 else 0.70
        run.row(
            "1 decode",
            f"{one['model']} {dtype}, batch {one['batch']}, context {one['tokens']}{name}",
            f"{one['median']:.1f} tokens/s",
            memory if one["read_share"] >= one["compute_share"] else compute,
            share,
            f">= {goal * 100:.0f} %" if counts else "",
            share >= goal if counts else None,
        )
        peer = run.peer(f"decode {shape} {one['batch']}")
        if peer and counts and not name:
            run.row(
                "1 decode",
                f"  the same in transformers, batch {one['batch']}",
                f"{peer:.1f} tokens/s",
            )


def prefill(run):
    words = ["--prompt", "2048,8192"]
    if run.given.quick:
        words = ["--prompt", "32,64", "--reps", "2"]
    for shape, dtype in (
        ("llama-3.1-8b", "bf16"),
        ("llama-3.1-8b", "int8"),
        ("llama-3.2-1b", "bf16"),
    ):
        counts = shape == "llama-3.1-8b" and dtype == "bf16"
        how = ["--measure", "prefill", *words]
        for name, report in both_products(run, "2 prefill", shape, dtype, *how):
            for one in report["results"]:
                run.row(
                    "2 prefill",
                    f"{one['model']} {dtype}, {one['tokens']} tokens{name}",
                    f"{one['median']:.0f} tokens/s",
                    ceilings(report)[1],
                    one["compute_share"],
                    ">= 65 %" if counts else "",
                    one["compute_share"] >= 0.65 if counts else None,
                )


def attention(run):
    words = ["--prompt", "2048,8192"]
    if run.given.quick:
        words = ["--prompt", "32,64", "--reps", "2"]
    for shape, head in (("llama-3.1-8b", 128), ("llama-3.2-1b", 64)):
        report = run.bench(shape, "--measure", "attention", *words)
        for one in report["results"]:
            peer = run.peer(f"attention {head} {one['tokens']}")
            run.row(
                "2 attention",
                f"one layer, heads of {head}, {one['tokens']} tokens",
                f"{one['median'] * 1e3:.3f} ms",
                f"{peer * 1e3:.3f} ms (scaled_dot_product_attention)" if peer else "no PyTorch here",
                one["median"] / peer if peer else None,
                "<= 130 %",
                one["median"] <= 1.3 * peer if peer else None,
            )


def upload(run):
    words = ["--reps", "2"] if run.given.quick else ["--reps", "10"]
    report = run.bench("llama-3.1-8b", "--measure", "upload", *words)
    by_name = {one["variant"]: one["median"] for one in report["results"]}
    if not by_name:
        raise Failure(f"{run.given.device} has no second queue")
    floor = f"{run.link / 1e9:.1f} GB/s (one pinned cudaMemcpyAsync)" if run.link else "not probed"
    for name, what, goal in (
        ("alone", "weights in the host pool, pinned, alone", 0.95),
        ("while decoding", "weights in the host pool, pinned, while decoding", 0.90),
        ("unpinned", "weights in the host pool, not pinned, alone", None),
    ):
        share = by_name[name] * 1e9 / run.link if run.link else None
        met = share >= goal if share is not None and goal else None
        text = f">= {goal * 100:.0f} %" if goal else ""
        run.row("3 upload", what, f"{by_name[name]:.1f} GB/s", floor, share, text, met)
    for one in report["ceilings"]["link"]:
        if one["name"].startswith("memory of cuda:"):
            rate = one["bytes_per_second"]
            share = rate / run.link if run.link else None
            run.row("3 upload", one["name"], f"{rate / 1e9:.1f} GB/s", floor, share)
    rise = by_name["token beside an upload"] / by_name["token alone"]
    run.row(
        "3 upload",
        "time per token of a model that decodes meanwhile",
        f"{by_name['token beside an upload']:.2f} ms",
        f"{by_name['token alone']:.2f} ms (alone)",
        rise,
        "<= 110 %",
        rise <= 1.1,
    )


def memory_of(server):
    """Anonymous memory of the process, and what its GPU has in use, both in MiB."""
    status = pathlib.Path(f"/proc/{server.process.pid}/status").read_text()
    own = int(status.split("RssAnon:")[1].split()[0]) / 1024
    try:
        query = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
        there = subprocess.run(query, capture_output=True, text=True, timeout=60).stdout.split()
        return own, float(there[0]) if there else None
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return own, None


def switches(run, server, models, count):
    """First-token times of so many switches between the models, and the growth of memory in MiB."""
    seconds, early = [], None
    for i in range(count):
        for model in models:
            if model != models[i % len(models)]:
                server.post(f"/admin/models/{model}/unload")
        seconds.append(server.first_token_seconds(models[i % len(models)], 1)[1])
        if i + 1 == max(2, count // 10):
            early = memory_of(server)
    late = memory_of(server)
    growth = [b - a if a is not None and b is not None else None for a, b in zip(early, late)]
    return seconds, growth


def cold(run):
    gigabytes, count = (0.02, 6) if run.given.quick else (16, 100)
    sizes = coldstart_bench.Sizes(64, 192, 4, 2, 512) if run.given.quick else coldstart_bench.EIGHT_B
    with tempfile.TemporaryDirectory(dir=run.given.scratch) as scratch:
        models, size = [], 0
        for seed in (1, 2):
            path = pathlib.Path(scratch, f"cold-{seed}")
            weights = coldstart_bench.make_model(path, gigabytes, seed, sizes)
            coldstart_bench.drop_cache(weights)  # or they are mapped from there, past the pool
            size = weights.stat().st_size
            models.append(path)
        pool = pathlib.Path(tempfile.mkdtemp(dir="/dev/shm", prefix="troupe-bench-gpu-"))
        os.environ["TROUPE_STORAGE_POOL"] = str(pool)
        os.environ["TROUPE_STORAGE_POOL_MEMORY"] = str(int(size * 2.2) + (128 << 20))
        try:
            with Server(run.given.binary, models, "--device", run.given.device) as server:
                names = [path.name for path in models]
                for name in names:  # into the pool
                    server.first_token_seconds(name, 1)
                one = []
                for _ in range(count // 2):
                    server.post(f"/admin/models/{names[0]}/unload")
                    one.append(server.first_token_seconds(names[0], 1)[1])
                both, growth = switches(run, server, names, count)
        finally:
            shutil.rmtree(pool, ignore_errors=True)
            for name in ("TROUPE_STORAGE_POOL", "TROUPE_STORAGE_POOL_MEMORY"):
                os.environ.pop(name, None)
    floor = size / run.link if run.link else None
    shown = f"{floor:.3f} s ({size / 1e9:.1f} GB at the pinned rate)" if floor else "not probed"
    for what, seconds in (("one model, from the pool", one), ("two models in turn", both)):
        worst = percentile(seconds, 0.99)
        run.row(
            "4 cold",
            f"{what}: request to first token, p50 / p99 of {len(seconds)}",
            f"{percentile(seconds, 0.5):.3f} / {worst:.3f} s",
            shown,
            worst / floor if floor else None,
            "p99 <= 0.6 s",
            worst <= 0.6,
        )
    host, device = (f"{x:+.0f} MiB" if x is not None else "unknown" for x in growth)
    run.row(
        "4 cold",
        f"memory, from the first tenth of the switches to the {count}th",
        f"host {host}, device {device}",
        goal=f"<= {GROWTH_MIB} MiB each",
        met=all(x is None or x <= GROWTH_MIB for x in growth),
    )


def start(run):
    seconds = []
    for _ in range(2 if run.given.quick else 5):
        with Server(
            run.given.binary, [coldstart_bench.EXAMPLES], "--device", run.given.device
        ) as server:
            seconds.append(server.ready_seconds)
    worst = max(seconds)
    measured = f"{percentile(seconds, 0.5):.3f} s, at most {worst:.3f} s"
    run.row("5 start", "process to ready", measured, "", None, "<= 1.5 s", worst <= 1.5)


PARTS = {
    "checks": checks,
    "decode": decode,
    "prefill": prefill,
    "attention": attention,
    "upload": upload,
    "cold": cold,
    "start": start,
}


def find_peers(run):
    """What PyTorch does on the same GPU, where it is here; says so where it is not."""
    if not run.given.device.startswith("cuda"):
        return "PyTorch is asked only on a GPU"
    words = [sys.executable, str(HERE / "torch_gpu_peer.py"), run.given.device]
    done = subprocess.run(words, capture_output=True, text=True, timeout=1800)
    if done.returncode != 0:
        return f"no comparison with PyTorch: {last_line(done.stderr)}"
    run.peers = json.loads(done.stdout)
    return f"compared with PyTorch {run.peers.pop('version', '?')}"


def show(run, peers):
    host = run.reports[0]["machine"] if run.reports else {}
    version = run.reports[0]["troupe"] if run.reports else "?"
    print(f"device:  {host.get('device', run.given.device)}, troupe {version}")
    print(f"host:    {host.get('cpu', '?')}, {host.get('cores', '?')} cores; {peers}")
    for one in run.reports[0]["ceilings"]["link"] if run.reports else []:
        print(f"link:    {one['name']}: {one['bytes_per_second'] / 1e9:.1f} GB/s ({one['how']})")
    head = ("PART", "WHAT", "MEASURED", "AGAINST", "SHARE", "GOAL", "")
    table = [head, *run.rows]
    widths = [max(len(row[i]) for row in table) for i in range(len(head))]
    print()
    for row in table:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths)).rstrip())


def find_libraries():
    """Lets the binary find a cuBLASLt that came as a Python package, as PyTorch's does."""
    found = [
        str(pathlib.Path(path).parent)
        for folder in sys.path
        for path in sorted(glob.glob(f"{folder}/nvidia/*/lib/libcublasLt.so.1[23]"))
    ]
    if found:
        old = os.environ.get("LD_LIBRARY_PATH", "")
        os.environ["LD_LIBRARY_PATH"] = ":".join(([old] if old else []) + found)


def parse():
    parser = argparse.ArgumentParser(
        prog="bench-gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--binary", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--cuda-test", help=argparse.SUPPRESS)
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--quick", action="store_true", help="small shapes: is everything there?")
    parser.add_argument("--scratch", help="where two models of 16 GB have room; default: TMPDIR")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, with commas")
    given = parser.parse_args()
    given.only = given.only.split(",")
    if unknown := [part for part in given.only if part not in PARTS]:
        parser.error(f"there is no part {unknown[0]}; there are {', '.join(PARTS)}")
    return given


def main():
    given = parse()
    find_libraries()
    run = Run(given)
    devices = subprocess.run(
        [given.binary, "devices", "-o", "json"], capture_output=True, text=True, timeout=300
    )
    try:
        found = [one["id"] for one in json.loads(devices.stdout)]
    except ValueError:
        print(f"bench-gpu: troupe devices: {last_line(devices.stderr)}", file=sys.stderr)
        return 1
    if given.device not in found:
        why = last_line(devices.stderr) if devices.stderr else f"there are {', '.join(found)}"
        print(f"bench-gpu: no device {given.device}: {why}", file=sys.stderr)
        return NO_DEVICE
    peers = find_peers(run)
    failed = []
    for part in given.only:
        print(f"bench-gpu: {part}", file=sys.stderr, flush=True)
        try:
            PARTS[part](run)
        except (Exception, SystemExit) as why:
            failed.append(part)
            text = last_line(str(why)) if str(why) else type(why).__name__
            run.row(part, "this part failed", text)
            print(f"bench-gpu: {part} failed: {text}", file=sys.stderr, flush=True)
    show(run, peers)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
