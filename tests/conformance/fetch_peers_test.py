"""Workers that fetch a model from its origin, and from workers that have fetched it before or fetch
it at the same time."""

import contextlib
import os
import pathlib
import subprocess
import threading

import pytest
from conftest import wait_for_port
from early_load_test import WEIGHTS, files, pool  # noqa: F401
from http_asking import ask, until
from pull_support import MIB, hub_env
from web_servers import Hub, is_get

MODEL = "big"


@pytest.fixture
def hub(files):  # noqa: F811
    server = Hub("acme/big")
    server.add(files)
    yield server
    server.close()


class Nodes:
    """A head and workers, each with a home of its own."""

    def __init__(self, binary, scratch, pool_dir, env):
        self.binary, self.scratch, self.pool, self.env = binary, scratch, pool_dir, env
        self.processes, self.logs = [], []

    def start(self, config):
        home = self.scratch / f"node-{len(self.processes)}"
        home.mkdir()
        (home / "troupe.yaml").write_text(config)
        self.logs.append(home / "log")
        options = ["--config", home / "troupe.yaml", "--log-level", "debug"]
        options += ["--port", "0", "--port-file", home / "port"]
        with self.logs[-1].open("w") as out:
            process = subprocess.Popen(
                [self.binary, "serve", *options],
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=home,
                env=os.environ | {"HOME": str(home), "no_proxy": "*"} | self.env,
            )
        self.processes.append(process)
        return home

    def head(self, source, replicas, pinned=True):
        pin = "true" if pinned else "false"
        home = self.start(
            "role: head\ncluster: {listen: '127.0.0.1:0'}\n"
            f"models: {{{MODEL}: {{source: {source}, pinned: {pin}, replicas: {replicas}}}}}\n"
        )
        port = wait_for_port(self.processes[0], home / "port", self.logs[0])
        self.url = f"http://127.0.0.1:{port}"
        marker = "--role worker --join "
        until(lambda: marker in self.logs[0].read_text())
        self.joining = self.logs[0].read_text().split(marker)[1].split()[0]

    def worker(self):
        place = self.pool / str(len(self.processes))
        place.mkdir()
        return self.start(
            f"role: worker\ncluster: {{join: '{self.joining}'}}\n"
            f"storage: {{pool: {place}, pool_memory: 256MiB}}\n"
        )

    def text(self):
        body = {"model": MODEL, "prompt": "Once upon a time", "max_tokens": 8, "temperature": 0}
        status, answer = ask(self.url, "/v1/completions", body=body)
        assert status == 200, answer
        assert answer["usage"]["completion_tokens"] > 0
        return answer["choices"][0]["text"]


@pytest.fixture
def nodes(request, tmp_path, pool, hub):  # noqa: F811
    out = Nodes(
        pathlib.Path(request.config.getoption("--binary")).resolve(), tmp_path, pool, hub_env(hub)
    )
    yield out
    for process in out.processes:
        process.kill()
        process.wait()


def weights_in(home):
    return [x for x in (home / ".cache/huggingface/hub").rglob(WEIGHTS) if x.is_file()]


def test_a_second_worker_draws_on_the_first(nodes, hub, files):  # noqa: F811
    nodes.head("hf://acme/big", 2)
    before = nodes.worker()
    text = nodes.text()
    until(lambda: weights_in(before))
    first = sum(hub.storage.sent.values())
    assert first == len(files[WEIGHTS])
    # As slow as a distant one.
    hub.storage.pause = 0.02
    home = nodes.worker()
    until(lambda: weights_in(home))
    assert weights_in(home)[0].read_bytes() == files[WEIGHTS]
    assert sum(hub.storage.sent.values()) - first < len(files[WEIGHTS]) * 0.75
    nodes.processes[1].kill()
    assert nodes.text() == text


def test_what_a_peer_has_wrong_comes_from_the_origin(nodes, hub, files):  # noqa: F811
    nodes.head("hf://acme/big", 2)
    spoilt = nodes.worker()
    nodes.text()
    until(lambda: weights_in(spoilt))
    blob = weights_in(spoilt)[0].resolve()
    with blob.open("r+b") as out:
        for at in range(MIB, len(files[WEIGHTS]), MIB):
            out.seek(at)
            out.write(b"\xff\xff")
    home = nodes.worker()
    until(lambda: weights_in(home))
    assert weights_in(home)[0].read_bytes() == files[WEIGHTS]


def test_a_peer_that_is_gone_costs_nothing_but_its_part(nodes, hub, files):  # noqa: F811
    nodes.head("hf://acme/big", 2)
    before = nodes.worker()
    text = nodes.text()
    until(lambda: weights_in(before))
    nodes.processes[1].kill()
    home = nodes.worker()
    until(lambda: weights_in(home))
    assert weights_in(home)[0].read_bytes() == files[WEIGHTS]
    assert nodes.text() == text


def sent(hub):
    return sum(hub.storage.sent.values())


@pytest.fixture
def four(nodes, hub):
    """Workers that wait for the model to be asked for, and then load it at the same time. The origin
    is as slow as a distant one."""
    nodes.head("hf://acme/big", 4, pinned=False)
    homes = [nodes.worker() for _ in range(4)]
    until(lambda: "\ntroupe_workers 4\n" in ask(nodes.url, "/metrics")[1])
    hub.storage.pause = 0.01
    return homes


@contextlib.contextmanager
def asking(nodes):
    """A request that runs beside the body, and is answered in the end."""
    answers = []
    asker = threading.Thread(target=lambda: answers.append(nodes.text()))
    asker.start()
    yield
    asker.join()
    assert answers


def assert_right(homes, files):  # noqa: F811
    for home in homes:
        until(lambda home=home: weights_in(home))
        assert weights_in(home)[0].read_bytes() == files[WEIGHTS]


def test_four_that_start_together_fetch_one_copy(nodes, hub, files, four):  # noqa: F811
    nodes.text()
    assert_right(four, files)
    assert sent(hub) <= 1.1 * len(files[WEIGHTS])


def test_one_of_four_is_killed_in_the_middle(nodes, hub, files, four):  # noqa: F811
    with asking(nodes):
        until(lambda: sent(hub) > len(files[WEIGHTS]) / 3)
        nodes.processes[2].kill()
        assert sent(hub) < len(files[WEIGHTS])
    assert_right([four[0], four[2], four[3]], files)
    assert sent(hub) <= 1.5 * len(files[WEIGHTS])


def test_an_origin_that_dies_after_one_copy_has_left_it(nodes, hub, files, four):  # noqa: F811
    left, lock, refused = set(range(len(files[WEIGHTS]) // 4096)), threading.Lock(), []

    def die(handler, path, wanted):
        if not is_get(handler):
            return False
        with lock:
            if not left:
                refused.append(path)
                return hub.storage.refuse(handler, 503)
            first, last = wanted or (0, len(files[WEIGHTS]))
            left.difference_update(range(first // 4096, last // 4096 + 1))
        return False

    hub.storage.faults.append(die)
    nodes.text()
    assert_right(four, files)
    assert not left


def test_wrong_bytes_that_one_hands_on_say_no_word(nodes, hub, files, four):  # noqa: F811
    def lie(handler, path, wanted):
        data = bytearray(files[WEIGHTS])
        data[wanted[0] + 1000] ^= 1
        return hub.storage.send_file(handler, path, bytes(data), wanted)

    in_the_middle = lambda h, p, w: is_get(h) and w and w[0] > MIB  # noqa: E731
    hub.storage.once(in_the_middle, lie)
    text = nodes.text()
    assert_right(four, files)
    assert nodes.text() == text


def test_one_that_comes_later_takes_what_another_is_fetching(nodes, hub, files):  # noqa: F811
    hub.storage.pause = 0.02
    nodes.head("hf://acme/big", 2)
    homes = [nodes.worker()]
    until(lambda: sent(hub) > len(files[WEIGHTS]) / 8)
    homes.append(nodes.worker())
    assert_right(homes, files)
    assert sent(hub) <= 1.1 * len(files[WEIGHTS])
    nodes.text()
