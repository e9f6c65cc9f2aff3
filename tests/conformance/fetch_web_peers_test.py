"""Workers that fetch a model from a plain web server at the same time: what they hand on to each
other is told from other bytes by the server's validators alone."""

import email.utils
import pathlib
import time

import pytest
from early_load_test import WEIGHTS, files, pool  # noqa: F401
from fetch_peers_test import Nodes, asking
from http_asking import ask, until
from pull_support import MIB
from web_servers import Server


class Dated(Server):
    """Knows files by their dates."""

    def __init__(self):
        super().__init__()
        self.etags = False
        self.date = email.utils.formatdate(time.time() - 86400, usegmt=True)

    def send_file(self, handler, path, data, wanted, extra=()):
        dated = [*extra, ("Last-Modified", self.date)]
        return super().send_file(handler, path, data, wanted, dated)


class Weak(Server):
    def etag(self, path):
        return "W/" + super().etag(path)


@pytest.fixture(params=[Server])
def web(request, files):  # noqa: F811
    server = request.param()
    put(server, files)
    yield server
    server.close()


@pytest.fixture
def nodes(request, tmp_path, pool):  # noqa: F811
    out = Nodes(pathlib.Path(request.config.getoption("--binary")).resolve(), tmp_path, pool, {})
    yield out
    for process in out.processes:
        process.kill()
        process.wait()


def put(web, files):  # noqa: F811
    web.files |= {f"/big/{path}": data for path, data in files.items()}


def other(files):  # noqa: F811
    """As long, other bytes everywhere in the weights."""
    data = bytearray(files[WEIGHTS])
    for at in range(MIB, len(data), MIB // 4):
        data[at] ^= 1
    return files | {WEIGHTS: bytes(data)}


def sent(web):
    return web.sent.get("/big/" + WEIGHTS, 0)


def weights_in(home):
    return [
        x for x in (home / ".local/share/troupe/models").rglob(WEIGHTS) if ".troupe" not in x.parts
    ]


def fetched(home):
    until(lambda: weights_in(home))
    return weights_in(home)[0].read_bytes()


@pytest.fixture
def four(nodes, web):
    """Workers that load the model at the same time, once it is asked for; the server is slow."""
    nodes.head(f"{web.url}/big", 4, pinned=False)
    homes = [nodes.worker() for _ in range(4)]
    until(lambda: "\ntroupe_workers 4\n" in ask(nodes.url, "/metrics")[1])
    web.pause = 0.01
    return homes


@pytest.mark.parametrize("web", [Server, Dated], indirect=True)
def test_four_that_start_together_fetch_one_copy(nodes, web, files, four):  # noqa: F811
    nodes.text()
    for home in four:
        assert fetched(home) == files[WEIGHTS]
    assert sent(web) <= 1.1 * len(files[WEIGHTS])
    # Nor does anybody ask for what is not handed on, as files that are no weights.
    assert not any("is left out" in log.read_text() for log in nodes.logs)


@pytest.mark.parametrize("web", [Weak], indirect=True)
def test_where_nothing_tells_versions_apart_each_fetches_all(nodes, web, files, four):  # noqa: F811
    nodes.text()
    for home in four:
        assert fetched(home) == files[WEIGHTS]
    assert sent(web) >= 4 * len(files[WEIGHTS])


def test_a_file_that_changes_in_the_middle_is_mixed_nowhere(nodes, web, files, four):  # noqa: F811
    after = other(files)
    with asking(nodes):
        until(lambda: sent(web) > len(files[WEIGHTS]) / 3)
        put(web, after)
    for home in four:
        assert fetched(home) in (files[WEIGHTS], after[WEIGHTS])


def test_a_second_worker_draws_on_the_first(nodes, web, files):  # noqa: F811
    nodes.head(f"{web.url}/big", 2)
    assert fetched(nodes.worker()) == files[WEIGHTS]
    nodes.text()
    first = sent(web)
    web.pause = 0.02
    assert fetched(nodes.worker()) == files[WEIGHTS]
    assert sent(web) - first < len(files[WEIGHTS]) * 0.75


def test_a_second_worker_takes_nothing_of_what_was_replaced(nodes, web, files):  # noqa: F811
    nodes.head(f"{web.url}/big", 2)
    assert fetched(nodes.worker()) == files[WEIGHTS]
    nodes.text()
    first, after = sent(web), other(files)
    put(web, after)
    web.pause = 0.02
    assert fetched(nodes.worker()) == after[WEIGHTS]
    assert sent(web) - first >= len(files[WEIGHTS])


def test_what_somebody_wrote_to_is_handed_on_to_nobody(nodes, web, files):  # noqa: F811
    nodes.head(f"{web.url}/big", 2)
    spoilt = nodes.worker()
    assert fetched(spoilt) == files[WEIGHTS]
    nodes.text()
    first = sent(web)
    with weights_in(spoilt)[0].open("r+b") as out:
        for at in range(MIB, len(files[WEIGHTS]), MIB):
            out.seek(at)
            out.write(b"\xff\xff")
    web.pause = 0.02
    assert fetched(nodes.worker()) == files[WEIGHTS]
    assert sent(web) - first >= len(files[WEIGHTS])
