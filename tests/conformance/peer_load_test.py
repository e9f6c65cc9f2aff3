"""Weights from node to node: workers without a copy of a model get it over the data plane.

Every node is a process of its own with a home and a pool of its own; workers never look at the
head's directory. The model is a Llama of random weights that takes some seconds at the rate that the
nodes are limited to."""

import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import uuid

import pytest
from conftest import ROOT, wait_for_port
from http_asking import ask, until

sys.path.insert(0, str(ROOT / "tests/bench"))
import coldstart_bench  # noqa: E402

MODEL = "random-llama"
RATE = 40_000_000


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """The directory of a model of about 125 MB."""
    model = tmp_path_factory.mktemp("models") / MODEL
    coldstart_bench.make_model(model, 0.125)
    return model


class Cluster:
    def __init__(self, binary, scratch, memory, model):
        self.binary, self.scratch, self.memory = binary, scratch, memory
        self.model, self.size = model, (model / "model.safetensors").stat().st_size
        self.nodes, self.joining = [], ""

    def start_node(self, config):
        number = len(self.nodes)
        home = self.scratch / f"home-{number}"
        home.mkdir()
        (home / "troupe.yaml").write_text(config)
        log = home / "log"
        options = ["--config", home / "troupe.yaml", "--no-hub-cache", "--log-level", "debug"]
        options += ["--port", "0", "--port-file", home / "port"]
        if not self.nodes:
            options.append(self.model)
        with log.open("w") as out:
            process = subprocess.Popen(
                [self.binary, "serve", *options],
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=home,
                env=os.environ | {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache")},
            )
        self.nodes.append(process)
        return process, log

    def start_head(self, settings=""):
        text = f"role: head\ncluster: {{listen: '127.0.0.1:0', data_rate: {RATE}}}\n{settings}"
        process, log = self.start_node(text)
        port = wait_for_port(process, log.with_name("port"), log)
        self.url = f"http://127.0.0.1:{port}"
        marker = "--role worker --join "
        until(lambda: marker in log.read_text())
        self.joining = log.read_text().split(marker)[1].split()[0]

    def start_worker(self, pool=True):
        lies_in = self.memory / str(len(self.nodes))
        lies_in.mkdir()
        storage = f"{{pool: {lies_in}, pool_memory: 400MiB}}" if pool else "{pool: false}"
        cluster = f"{{join: '{self.joining}', data_rate: {RATE}, same_paths: false}}"
        return self.start_node(f"role: worker\ncluster: {cluster}\nstorage: {storage}\n")

    def metric(self, name, labels=""):
        text = ask(self.url, "/metrics")[1]
        found = re.search(rf"^{name}{re.escape(labels)} ([0-9.e+]+)$", text, re.M)
        return float(found[1]) if found else 0.0

    def from_peers(self):
        return self.metric("troupe_load_source_bytes_total", '{source="peer"}')

    def sent_by_head(self):
        return self.metric("troupe_peer_sent_bytes_total")

    def answer(self):
        body = {"model": MODEL, "prompt": "Once upon a time", "max_tokens": 8, "temperature": 0}
        return ask(self.url, "/v1/completions", body=body)

    def text(self):
        status, answer = self.answer()
        assert status == 200, answer
        return answer["choices"][0]["text"]


@pytest.fixture
def cluster(request, tmp_path, weights):
    shared = pathlib.Path("/dev/shm")
    memory = (shared if shared.is_dir() else tmp_path) / f"troupe-test-{uuid.uuid4().hex}"
    memory.mkdir()
    out = Cluster(pathlib.Path(request.config.getoption("--binary")), tmp_path, memory, weights)
    yield out
    for process in out.nodes:
        process.kill()
        process.wait()
    shutil.rmtree(memory)


PAIR = f"models: {{{MODEL}: {{pinned: true, replicas: 2}}}}\n"


def test_a_worker_without_the_files_gets_them_from_the_head(cluster):
    cluster.start_head()
    _, log = cluster.start_worker()
    assert len(cluster.text()) > 0
    until(lambda: cluster.from_peers() > 0)
    assert cluster.from_peers() == pytest.approx(cluster.size, rel=0.01)
    assert "which is not on this machine" in log.read_text()
    stand_ins = list((log.parent / "cache/troupe/peers").glob("*/model.safetensors"))
    assert len(stand_ins) == 1
    assert stand_ins[0].stat().st_blocks * 512 < cluster.size / 100


def test_a_second_worker_gets_what_the_first_has(cluster):
    cluster.start_head(PAIR)
    first, _ = cluster.start_worker()
    text = cluster.text()
    until(lambda: cluster.from_peers() > 0)
    before, sent = cluster.from_peers(), cluster.sent_by_head()
    cluster.start_worker()
    until(lambda: cluster.from_peers() > before)
    taken = cluster.from_peers() - before
    assert taken == pytest.approx(cluster.size, rel=0.01)
    # The head and the first worker are equally fast, and each gave its part.
    from_first = taken - (cluster.sent_by_head() - sent)
    assert cluster.size * 0.25 < from_first < cluster.size * 0.75
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert cluster.text() == text


def test_a_peer_that_is_killed_in_the_middle_is_made_up_for(cluster):
    cluster.start_head(PAIR)
    first, _ = cluster.start_worker()
    text = cluster.text()
    until(lambda: cluster.from_peers() > 0)
    before, sent = cluster.from_peers(), cluster.sent_by_head()
    cluster.start_worker()
    until(lambda: cluster.sent_by_head() > sent + cluster.size / 8)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert cluster.from_peers() == before, "the load was over before the kill"
    assert cluster.text() == text
    until(lambda: cluster.from_peers() > before)
    assert cluster.sent_by_head() - sent > cluster.size / 2


def test_two_that_start_together_share_what_they_get(cluster):
    cluster.start_head(f"models: {{{MODEL}: {{replicas: 2}}}}\n")
    logs = [cluster.start_worker()[1] for _ in range(2)]
    until(lambda: cluster.metric("troupe_workers") == 2)
    sent = cluster.sent_by_head()
    assert len(cluster.text()) > 0
    until(lambda: cluster.from_peers() >= 1.98 * cluster.size)
    # Not much more than once, although two workers have got it.
    assert cluster.sent_by_head() - sent < 1.25 * cluster.size
    assert all("shared with 1 more" in log.read_text() for log in logs)


def test_one_that_comes_later_takes_what_another_is_getting(cluster):
    cluster.start_head(PAIR)
    cluster.start_worker()
    until(lambda: cluster.sent_by_head() > cluster.size / 10)
    _, log = cluster.start_worker()
    until(lambda: "shared with 1 more" in log.read_text())
    assert cluster.from_peers() == 0, "the first load was over before the second began"
    until(lambda: cluster.from_peers() >= 1.98 * cluster.size)
    assert cluster.sent_by_head() < 1.25 * cluster.size
    assert len(cluster.text()) > 0


def test_one_that_comes_later_goes_on_if_the_other_is_killed(cluster):
    cluster.start_head(PAIR)
    first, _ = cluster.start_worker()
    until(lambda: cluster.sent_by_head() > cluster.size / 10)
    _, log = cluster.start_worker()
    until(lambda: "shared with 1 more" in log.read_text())
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert cluster.from_peers() == 0, "the first load was over before the kill"
    until(lambda: cluster.from_peers() >= 0.98 * cluster.size)
    assert len(cluster.text()) > 0


def test_without_a_pool_a_worker_says_what_it_needs(cluster):
    cluster.start_head()
    cluster.start_worker(pool=False)
    status, answer = cluster.answer()
    assert status >= 500
    assert "weights of other nodes need the host pool" in answer["error"]["message"]
