"""SIGKILL of a worker in the middle of 20 streams: every text is that of an undisturbed run.

A head and a worker run as processes of their own. The texts are first taken undisturbed, then the worker
is killed while the streams run and another is started; greedy and seeded sampling alike."""

import concurrent.futures
import json
import pathlib
import signal
import subprocess
import threading
import time

import httpx
import pytest
from http_asking import until

STREAMS = 20
PROMPTS = [
    "Tell me a short story about a fox.",
    "Tell me a short story about a robot.",
    "What is Troupe?",
    "Hello!",
]


@pytest.fixture
def cluster(request, tmp_path):
    """(url, start_worker, joining): a head without workers, a function that starts one, which joins at
    `joining` unless told otherwise."""
    binary = pathlib.Path(request.config.getoption("--binary"))
    models = request.config.getoption("--models")
    processes = []

    def start(*arguments):
        log = open(tmp_path / f"log-{len(processes)}", "w+")
        process = subprocess.Popen(
            [binary, "serve", "--no-hub-cache", *arguments], stdout=log, stderr=subprocess.STDOUT
        )
        process.log = pathlib.Path(log.name)
        processes.append(process)
        return process

    port_file = tmp_path / "port"
    head = start(
        "--role",
        "head",
        "--cluster-listen",
        "127.0.0.1:0",
        "--port",
        "0",
        "--port-file",
        str(port_file),
        models,
    )
    deadline = time.monotonic() + 60
    while not port_file.exists() and time.monotonic() < deadline and head.poll() is None:
        time.sleep(0.02)
    marker, joining = "--role worker --join ", ""
    while not joining and time.monotonic() < deadline and head.poll() is None:
        text = head.log.read_text()
        joining = text.split(marker)[1].split()[0] if marker in text and "MODEL" in text else ""
        time.sleep(0.02)
    assert joining, head.log.read_text()
    yield (
        f"http://127.0.0.1:{port_file.read_text().strip()}",
        lambda at=joining: start("--role", "worker", "--join", at),
        joining,
    )
    for process in processes:
        process.kill()
        process.wait()


def stream(url, number, on_text):
    """The text of one streamed chat; even numbers greedy, odd ones sampled with a seed."""
    body = {
        "model": "stories-llama",
        "stream": True,
        "max_tokens": 300,
        "ignore_eos": True,
        "messages": [{"role": "user", "content": PROMPTS[number % len(PROMPTS)]}],
    }
    body |= {"temperature": 0} if number % 2 == 0 else {"temperature": 0.9, "seed": number}
    text, finished, done = "", None, False
    with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=180) as answer:
        assert answer.status_code == 200, answer.read()
        for line in answer.iter_lines():
            if line == "data: [DONE]":
                done = True
            elif line.startswith("data: "):
                chunk = json.loads(line[6:])
                assert "error" not in chunk, chunk
                for choice in chunk["choices"]:
                    piece = choice["delta"].get("content") or ""
                    text += piece
                    finished = choice["finish_reason"] or finished
                    if piece:
                        on_text()
    assert done and finished == "length"
    return text


def all_streams(url, on_text=lambda: None):
    with concurrent.futures.ThreadPoolExecutor(STREAMS) as pool:
        return list(pool.map(lambda number: stream(url, number, on_text), range(STREAMS)))


def test_killing_a_worker_changes_no_text(cluster):
    url, start_worker, _ = cluster
    worker = start_worker()
    undisturbed = all_streams(url)
    assert len(set(undisturbed)) > 4
    for round_number in range(3):
        pieces, kill_now = 0, threading.Event()

        def count():
            nonlocal pieces
            pieces += 1
            if pieces == 600 + 900 * round_number:  # well inside the 20 * 300 tokens
                kill_now.set()

        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            running = pool.submit(all_streams, url, count)
            assert kill_now.wait(120)
            worker.send_signal(signal.SIGKILL)
            worker.wait()
            assert not running.done(), "the streams were over before the kill"
            worker = start_worker()
            assert running.result() == undisturbed


def workers_of(url):
    """By node: how many models its worker says it has, and how often it was started again."""
    rows = httpx.get(f"{url}/admin/actors").json()["data"]
    return {
        row["node"]: (row["detail"].split(",")[0], row["restarts"])
        for row in rows
        if row["type"] == "gpu-worker"
    }


def test_a_worker_that_nothing_befalls_keeps_its_models(cluster):
    url, start_worker, _ = cluster
    for _ in range(2):
        start_worker()
    until(lambda: len(workers_of(url)) == 2)
    stream(url, 0, lambda: None)
    before = workers_of(url)
    assert ("1 models", 0) in before.values()
    time.sleep(12)  # longer than a worker waits for a head's answer when it joins
    assert workers_of(url) == before
