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


# A shell starts what it puts into the background with SIGINT ignored, and every child inherits that.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser):
    for name, default in (("binary", "build/release/bin/troupe"), ("models", "examples/models")):
        parser.addoption(
            f"--{name}",
            type=lambda x: pathlib.Path(x).absolute(),
            default=os.environ.get(f"TROUPE_{name.upper()}", str(ROOT / default)),
        )
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


class Server:
    """`troupe serve` with a configuration of its own in the directory `scratch`."""

    def __init__(self, config, scratch, config_text, environment=None):
        self.binary = pathlib.Path(config.getoption("--binary"))
        self.scratch, self.file, self.log = scratch, scratch / "troupe.yaml", scratch / "log"
        self.environment = os.environ | (environment or {})
        self.models = config.getoption("--models")
        self.file.write_text(config_text)

    def start(self, *more_options):
        port_file = self.scratch / "port"
        port_file.unlink(missing_ok=True)
        options = ["--config", self.file, "--no-hub-cache", "--log-level", "debug"]
        options += ["--port", "0", "--port-file", port_file, *more_options, self.models]
        with self.log.open("a") as out:
            self.process = subprocess.Popen(
                [self.binary, "serve", *options],
                stdout=out,
                stderr=subprocess.STDOUT,
                env=self.environment,
            )
        self.url = f"http://127.0.0.1:{wait_for_port(self.process, port_file, self.log)}"
        return self

    def stop(self, how=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(how)
            self.process.wait(60)

    def troupe(self, *words, key="", check=True):
        """What the command line says of this server, (exit code, stdout, stderr) without check."""
        told = subprocess.run(
            [self.binary, *words],
            env=self.environment | {"TROUPE_URL": self.url, "TROUPE_API_KEY": key},
            capture_output=True,
            text=True,
            timeout=60,
        )
        if not check:
            return told.returncode, told.stdout, told.stderr
        assert told.returncode == 0, told.stderr
        return told.stdout


@pytest.fixture
def make_server(request, tmp_path):
    """A function (text of troupe.yaml, environment, models) -> started Server; stopped in the end."""
    started = []

    def make(config_text, environment=None, models=None):
        server = Server(request.config, tmp_path, config_text, environment)
        server.models = models or server.models
        started.append(server)
        return server.start()

    yield make
    for server in started:
        server.stop()


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
