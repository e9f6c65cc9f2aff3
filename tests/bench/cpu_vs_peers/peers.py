"""Builds llama.cpp for this machine from the source package of llama-cpp-python on PyPI.

usage: python3 tests/bench/cpu_vs_peers/peers.py [--folder build/peers] [--jobs N]

Everything lands below --folder: a virtual environment, the sources, the build. Only what is missing
is made. Compiling takes some minutes; stop and start it again as you like.
"""

import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile

HERE = pathlib.Path(__file__).resolve().parent
VERSION = "0.3.36"  # of llama-cpp-python
TOOLS = ("llama-bench", "llama-batched-bench", "llama-server")


def run(*words, **more):
    subprocess.run([str(word) for word in words], check=True, **more)


def python_in(folder):
    """The interpreter of the environment in `folder`, made if need be."""
    venv = folder / "venv"
    stamp = venv / ".installed"
    wanted = (HERE / "requirements.txt").read_text()
    if not stamp.exists() or stamp.read_text() != wanted:
        run(sys.executable, "-m", "venv", venv)
        run(venv / "bin/pip", "install", "-q", "-r", HERE / "requirements.txt")
        stamp.write_text(wanted)
    return venv / "bin/python"


def sources_in(folder):
    root = folder / f"llama_cpp_python-{VERSION}"
    if not root.exists():
        package = f"llama-cpp-python=={VERSION}"
        run(
            folder / "venv/bin/pip",
            *("download", "-q", "--no-deps", "--no-binary", ":all:", package, "-d", folder),
        )
        with tarfile.open(folder / f"llama_cpp_python-{VERSION}.tar.gz") as archive:
            archive.extractall(folder, filter="data")
    return root / "vendor" / "llama.cpp"


def compiler():
    """clang where the processor has AMX: g++ 12 drops stores before its tile intrinsics."""
    amx = "amx_tile" in pathlib.Path("/proc/cpuinfo").read_text()
    if amx and shutil.which("clang++"):
        return ["-DCMAKE_C_COMPILER=clang", "-DCMAKE_CXX_COMPILER=clang++"]
    return []


def build(folder, jobs):
    """The folder with llama.cpp's programs, built if need be."""
    folder = pathlib.Path(folder).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    tools = folder / "llama.cpp" / "bin"
    python_in(folder)
    if all((tools / name).exists() for name in TOOLS):
        return tools
    path = dict(os.environ, PATH=f"{folder / 'venv/bin'}:{os.environ['PATH']}")
    off = "CURL OPENSSL BUILD_TESTS BUILD_EXAMPLES BUILD_UI USE_PREBUILT_UI BUILD_APP".split()
    run(
        *("cmake", "-G", "Ninja", "-S", sources_in(folder), "-B", folder / "llama.cpp"),
        *("-DCMAKE_BUILD_TYPE=Release", "-DGGML_NATIVE=ON", "-DBUILD_SHARED_LIBS=ON"),
        *(f"-DLLAMA_{name}=OFF" for name in off),
        *compiler(),
        env=path,
    )
    run("nice", "ninja", "-C", folder / "llama.cpp", "-j", jobs, *TOOLS, env=path)
    return tools


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--folder", default="build/peers")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    given = parser.parse_args()
    print(build(given.folder, given.jobs))


if __name__ == "__main__":
    main()
