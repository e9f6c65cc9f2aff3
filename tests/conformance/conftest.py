"""A running `troupe serve` for the tests of this folder.

The binary is named by --binary or TROUPE_BINARY (default: build/release/bin/troupe), the directory
of models by --models or TROUPE_MODELS (default: examples/models). With --url or TROUPE_URL a server
that runs already is used instead.
"""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))


def pytest_addoption(parser):
    parser.addoption(
        "--binary", default=os.environ.get("TROUPE_BINARY", ROOT / "build/release/bin/troupe")
    )
    parser.addoption("--models", default=os.environ.get("TROUPE_MODELS", ROOT / "examples/models"))
    parser.addoption("--url", default=os.environ.get("TROUPE_URL"))


def wait_for_port(process, port_file, log):
    """The port that the server has written; fails with its output when it ends or says nothing."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if port_file.exists() and (text := port_file.read_text().strip()):
            return int(text)
        if process.poll() is not None:
            break
        time.sleep(0.02)
    pytest.fail(f"troupe serve did not start (exit code {process.poll()}):\n{log.read_text()}")


@pytest.fixture(scope="session")
def server_url(request, tmp_path_factory):
    """http://host:port of a server over the example models."""
    if url := request.config.getoption("--url"):
        yield url.rstrip("/")
        return
    binary = pathlib.Path(request.config.getoption("--binary"))
    if not binary.exists():
        pytest.fail(f"{binary} does not exist: build it, or name it with --binary or TROUPE_BINARY")
    scratch = tmp_path_factory.mktemp("server")
    port_file, log = scratch / "port", scratch / "log"
    with log.open("w") as out:
        process = subprocess.Popen(
            [
                binary,
                "serve",
                "--port",
                "0",
                "--port-file",
                port_file,
                request.config.getoption("--models"),
            ],
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        yield f"http://127.0.0.1:{wait_for_port(process, port_file, log)}"
        assert process.poll() is None, f"the server ended by itself:\n{log.read_text()}"
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
