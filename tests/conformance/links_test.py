"""Workers whose connection to the head breaks: both sides see it, or only the worker does."""

import contextlib
import socket
import threading

import pytest
from http_asking import until
from kill_test import cluster, stream, workers_of  # noqa: F401


class Link:
    """Passes a worker's connections on to the head, until they are cut."""

    def __init__(self, head):
        self.head, self.pairs = head, []
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listening.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):  # the end
            while True:
                worker, _ = self.listening.accept()
                host, port = self.head.rsplit(":", 1)
                head = socket.create_connection((host, int(port)))
                self.pairs.append((worker, head))
                for pair in ((worker, head), (head, worker)):
                    threading.Thread(target=self.copy, args=pair, daemon=True).start()

    def copy(self, source, target):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)

    def cut(self, worker_alone=False):
        worker, head = self.pairs[-1]
        worker.shutdown(socket.SHUT_RDWR)
        if not worker_alone:
            head.shutdown(socket.SHUT_RDWR)

    def close(self):
        self.listening.close()
        for pair in self.pairs:
            for one in pair:
                one.close()


@pytest.fixture
def linked(cluster):  # noqa: F811
    """(url, link, log of the worker): a head and one worker that joins it through a link."""
    url, start_worker, joining = cluster
    link = Link(joining)
    worker = start_worker(link.address)
    until(lambda: len(workers_of(url)) == 1)
    yield url, link, worker.log
    link.close()


def joins(log):
    return log.read_text().count("joined the head")


@pytest.mark.parametrize("worker_alone", [False, True])
def test_a_stream_goes_on_unchanged_after_its_connection_broke(linked, worker_alone):
    url, link, _ = linked
    undisturbed = stream(url, 1, lambda: None)
    pieces = 0

    def count():
        nonlocal pieces
        pieces += 1
        if pieces == 30:
            link.cut(worker_alone)

    assert stream(url, 1, count) == undisturbed
    assert pieces > 100


def test_a_connection_that_breaks_is_lost_and_found_once(linked):
    url, link, log = linked
    cuts = 30
    for i in range(cuts):
        link.cut()
        until(lambda i=i: joins(log) >= i + 2)
        until(lambda: len(workers_of(url)) == 1)
    assert joins(log) == cuts + 1
    assert log.read_text().count("lost the head") == cuts
    assert stream(url, 0, lambda: None)
