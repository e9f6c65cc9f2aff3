"""bench-gpu: every part runs with a real binary (on the CPU, in small shapes), one that fails is named
while the others go on, and a machine without the device says so in one line."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture
def bench_gpu(request):
    def run(*words, **variables):
        binary = request.config.getoption("--binary")
        return subprocess.run(
            [ROOT / "tools/bench-gpu", *words],
            env={**os.environ, "TROUPE_BINARY": str(pathlib.Path(binary).resolve()), **variables},
            capture_output=True,
            text=True,
            timeout=600,
        )

    return run


def test_every_part_fills_the_table(bench_gpu, tmp_path):
    done = bench_gpu("--device", "cpu", "--quick", "--scratch", str(tmp_path))
    assert done.returncode == 0, done.stderr + done.stdout
    for words in (
        "self-check of cpu",
        "tiny bf16, batch 4",
        "tiny bf16, 64 tokens",
        "one layer, heads of 128, 64 tokens",
        "weights in the host pool, pinned, while decoding",
        "two models in turn: request to first token",
        "process to ready",
    ):
        assert words in done.stdout, done.stdout
    assert "failed" not in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_part_that_fails_is_named_and_the_others_go_on(bench_gpu, tmp_path):
    words = ["--device", "cpu", "--quick", "--only", "cold,checks"]
    done = bench_gpu(*words, "--scratch", str(tmp_path / "missing"))
    assert done.returncode == 1
    assert "bench-gpu: cold failed" in done.stderr
    assert "self-check of cpu" in done.stdout


def test_without_the_device_it_says_so_in_one_line(bench_gpu):
    done = bench_gpu("--device", "cuda:99")
    assert done.returncode == 6
    assert done.stderr.count("\n") == 1 and "cuda:99" in done.stderr
    assert done.stdout == ""


def test_parts_that_are_not_there_are_wrong_usage(bench_gpu):
    assert bench_gpu("--only", "speed").returncode == 2


# `troupe` as it would be on a machine with a GPU: the CPU computes, under the other's name.
PRETENDER = """#!{python}
import json, os, subprocess, sys
words = [word.replace("cuda:0", "cpu") for word in sys.argv[1:]]
if words[0] == "serve":
    os.execv({binary!r}, [{binary!r}, *words])
done = subprocess.run([{binary!r}, *words], capture_output=True, text=True)
out = done.stdout
if words[0] == "devices":
    out = json.dumps([{{**one, "id": one["id"].replace("cpu", "cuda:0")}} for one in json.loads(out)])
elif words[0] == "bench":
    report = json.loads(out)
    if "fastest" in words:
        report["machine"]["device"] += ", cuBLASLt 13.0.1" if "int8" not in words else ""
    report["ceilings"]["link"].append(
        {{"name": "pinned host memory to device", "how": "one copy", "bytes_per_second": 5e10}}
    )
    report["ceilings"]["link"].append(
        {{"name": "memory of cuda:1 to device", "how": "one copy", "bytes_per_second": 4e11}}
    )
    out = json.dumps(report)
print(out)
sys.stderr.write(done.stderr)
sys.exit(done.returncode)
"""


def executable(path, text):
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


def test_on_a_gpu_both_products_and_the_link_are_measured(bench_gpu, request, tmp_path):
    binary = str(pathlib.Path(request.config.getoption("--binary")).resolve())
    pretender = executable(
        tmp_path / "troupe", PRETENDER.format(python=sys.executable, binary=binary)
    )
    passes = executable(
        tmp_path / "cuda_test", "#!/bin/sh\necho '[  PASSED  ] 47 tests.'; echo '[  SKIPPED ] 1 test.'\n"
    )
    words = ["--quick", "--only", "checks,decode,prefill,upload,cold", "--scratch", str(tmp_path)]
    done = bench_gpu(*words, TROUPE_BINARY=pretender, TROUPE_CUDA_TEST=passes)
    assert done.returncode == 0, done.stderr + done.stdout
    assert "47 tests passed" in done.stdout
    assert "50.0 GB/s (one pinned cudaMemcpyAsync)" in done.stdout
    assert "GB at the pinned rate)" in done.stdout
    assert re.search(r"memory of cuda:1 to device +400\.0 GB/s", done.stdout), done.stdout
    for words in ("tiny bf16, 64 tokens", "tiny bf16, batch 4, context 32"):
        assert re.search(f"{words}  .*tokens/s", done.stdout), done.stdout
        assert re.search(f"{words}, products: fastest  .*tokens/s", done.stdout), done.stdout
    assert re.search("llama-3.1-8b int8, products: fastest +no cuBLASLt", done.stdout)
    assert "under racecheck" in done.stdout
    fails = executable(tmp_path / "cuda_test", "#!/bin/sh\necho 'x.cpp:3: Failure'; exit 1\n")
    done = bench_gpu("--quick", "--only", "checks", TROUPE_BINARY=pretender, TROUPE_CUDA_TEST=fails)
    assert done.returncode == 1
    assert "checks failed: cuda_test: x.cpp:3: Failure" in done.stderr


def test_what_a_sanitizer_finds_fails_the_checks(bench_gpu, request, tmp_path):
    binary = str(pathlib.Path(request.config.getoption("--binary")).resolve())
    pretender = executable(
        tmp_path / "troupe", PRETENDER.format(python=sys.executable, binary=binary)
    )
    passes = executable(tmp_path / "cuda_test", "#!/bin/sh\necho '[  PASSED  ] 47 tests.'\n")

    def checked(sanitizer):
        executable(tmp_path / "compute-sanitizer", f"#!/bin/sh\n{sanitizer}\n")
        return bench_gpu(
            *["--quick", "--only", "checks"],
            TROUPE_BINARY=pretender,
            TROUPE_CUDA_TEST=passes,
            PATH=f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
        )

    # --tool TOOL --error-exitcode 99 TEST ...
    done = checked('[ "$4" = 99 ] && shift 4 && exec "$@"')
    assert done.returncode == 0, done.stderr + done.stdout
    for tool in ("memcheck", "racecheck", "initcheck"):
        assert f"a part of cuda_test under {tool}" in done.stdout
    assert done.stdout.count("found nothing") == 3
    done = checked(
        'echo "========= COMPUTE-SANITIZER"; echo "========= Invalid __global__ read of size 4 bytes"\n'
        'exit 99'
    )
    assert done.returncode == 1
    assert "checks failed: memcheck: Invalid __global__ read of size 4 bytes" in done.stderr
