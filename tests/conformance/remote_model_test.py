"""Models whose files come when they are first asked for: `run` and `serve` with a source."""

import json
import pathlib
import signal
import subprocess
import time

import httpx
import pytest
from pull_support import FAILED, OK, Command, hub_env, troupe  # noqa: F401
from web_servers import Hub, Server


@pytest.fixture
def models(request):
    return pathlib.Path(request.config.getoption("--models")).resolve()


def files_of(directory):
    return {p.name: p.read_bytes() for p in directory.iterdir() if p.is_file()}


@pytest.fixture
def web(models):
    server = Server()
    for path, data in files_of(models / "stories-llama").items():
        server.files[f"/stories/{path}"] = data
    yield server
    server.close()


@pytest.fixture
def hub(models):
    server = Hub("acme/stories")
    server.add(files_of(models / "stories-llama"))
    yield server
    server.close()


class Serving:
    def __init__(self, troupe, config, *more, env=()):
        self.port_file = troupe.home / "port"
        self.port_file.unlink(missing_ok=True)
        (troupe.home / "troupe.yaml").write_text(config)
        self.log = (troupe.home / "log").open("w+")
        self.process = troupe.start(
            *("serve", "--port", 0, "--port-file", self.port_file, *more),
            env=env,
            stdout=self.log,
            stderr=self.log,
        )

    def __enter__(self):
        until = time.monotonic() + 60
        while not (self.port_file.exists() and self.port_file.read_text().strip()):
            assert self.process.poll() is None and time.monotonic() < until, self.text()
            time.sleep(0.01)
        self.url = f"http://127.0.0.1:{self.port_file.read_text().strip()}"
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise

    def text(self):
        self.log.seek(0)
        return self.log.read()

    def ask(self, model, timeout=60):
        body = {"model": model, "messages": [{"role": "user", "content": "Tell me a story."}]}
        body |= {"max_tokens": 8, "temperature": 0}
        return httpx.post(f"{self.url}/v1/chat/completions", json=body, timeout=timeout)


def test_run_fetches_from_the_hub_once_and_then_needs_no_network(troupe, hub, models):
    here = troupe("run", models / "stories-llama", "Hello!", "--temperature", 0)
    there = troupe("run", "hf://acme/stories", "Hello!", "--temperature", 0, env=hub_env(hub))
    assert there.returncode == OK, there.stderr
    assert there.stdout == here.stdout and here.stdout.strip()
    hub.close()
    again = troupe("run", "hf://acme/stories", "Hello!", "--temperature", 0, env=hub_env(hub))
    assert again.stdout == here.stdout, again.stderr
    by_name = troupe("run", "acme/stories", "Hello!", "--temperature", 0)
    assert by_name.stdout == here.stdout, by_name.stderr


def test_run_says_why_a_model_cannot_be_fetched(troupe, hub):
    done = troupe("run", "hf://acme/absent", "hi", env=hub_env(hub))
    assert done.returncode != OK and "hf://acme/absent" in done.stderr, done.stderr


CONFIG = """
models:
  storyteller:
    source: {source}
    aliases: [teller]
"""


def test_serve_fetches_a_configured_model_when_it_is_first_asked_for(troupe, web):
    config = CONFIG.format(source=f"{web.url}/stories")
    with Serving(troupe, config) as server:
        listed = httpx.get(f"{server.url}/v1/models").json()["data"]
        assert [m["id"] for m in listed] == ["storyteller"] and not web.requests
        answer = server.ask("teller")
        assert answer.status_code == 200, answer.text
        assert answer.json()["choices"][0]["message"]["content"].strip()
        in_use = troupe("rm", "storyteller")
        assert in_use.returncode == FAILED and "in use" in in_use.stderr, in_use.stderr
        sent = dict(web.sent)
        assert server.ask("storyteller").status_code == 200 and web.sent == sent
    with Serving(troupe, config) as server:  # another process: nothing is fetched again
        assert server.ask("storyteller").status_code == 200
        assert web.sent == sent
    assert troupe("rm", "storyteller").returncode == OK


def test_serve_takes_references_as_run_does(troupe, hub):
    with Serving(troupe, "", "hf://acme/stories", env=hub_env(hub)) as server:
        listed = httpx.get(f"{server.url}/v1/models").json()["data"]
        assert [m["id"] for m in listed] == ["acme/stories"]
        answer = server.ask("acme/stories")
        assert answer.status_code == 200, answer.text


def test_a_worker_elsewhere_fetches_for_itself(troupe, web):
    """The head fetches what it needs to read requests, and no weights; the worker everything."""
    config = CONFIG.format(source=f"{web.url}/stories")
    head = ("--role", "head", "--cluster-listen", "127.0.0.1:0")
    home = troupe.home / "elsewhere"
    home.mkdir()
    with Serving(troupe, config, *head) as server:
        marker, until = "--role worker --join ", time.monotonic() + 60
        while marker not in server.text() or "\n" not in server.text().split(marker)[1]:
            assert time.monotonic() < until, server.text()
            time.sleep(0.01)
        joining = server.text().split(marker)[1].split()[0]
        worker = Command(troupe.binary, home)
        process = worker.start("serve", "--role", "worker", "--join", joining)
        try:
            answer = server.ask("storyteller")
            assert answer.status_code == 200, answer.text
        finally:
            process.terminate()
            process.communicate(timeout=30)
    assert (worker.store / "storyteller/model.safetensors").exists()
    assert (troupe.store / "storyteller/tokenizer.json").exists()
    assert not (troupe.store / "storyteller/model.safetensors").exists()


def test_a_stream_shows_the_download_while_it_waits(troupe, web):
    web.pause = 0.005
    with Serving(troupe, CONFIG.format(source=f"{web.url}/stories")) as server:
        body = {"model": "storyteller", "stream": True, "max_tokens": 4}
        body |= {"messages": [{"role": "user", "content": "Hello"}]}
        comments, data = [], []
        with httpx.stream(
            "POST", f"{server.url}/v1/chat/completions", json=body, timeout=60
        ) as answer:
            for line in answer.iter_lines():
                (comments if line.startswith(":") else data).append(line)
        assert any("downloading" in c for c in comments), comments
        assert any(line == "data: [DONE]" for line in data)


def test_other_models_answer_while_one_is_being_fetched(troupe, web, models):
    web.pause = 0.2
    config = CONFIG.format(source=f"{web.url}/stories") + f"\nmodel_dirs: [{models}]\n"
    with Serving(troupe, config) as server:
        httpx.post(f"{server.url}/v1/chat/completions", timeout=0.5, json={}).close()
        try:
            server.ask("storyteller", timeout=0.5)
        except httpx.TimeoutException:
            pass
        assert server.ask("arith-qwen").status_code == 200
        web.pause = 0


def test_an_origin_that_fails_fails_the_request_and_the_next_one_tries_again(troupe, web):
    broken = lambda h, p, r: p.endswith(".safetensors") and web.refuse(h, 403)  # noqa: E731
    web.faults.append(broken)
    with Serving(troupe, CONFIG.format(source=f"{web.url}/stories")) as server:
        refused = server.ask("storyteller")
        assert refused.status_code >= 500, refused.text
        assert "denied" in refused.json()["error"]["message"], refused.text
        web.faults.clear()
        until = time.monotonic() + 60
        while (answer := server.ask("storyteller")).status_code != 200:
            assert time.monotonic() < until, answer.text
            time.sleep(0.2)
        states = httpx.get(f"{server.url}/admin/models").text
        assert json.loads(states)


def test_credentials_in_a_source_are_used_and_never_shown(troupe, web):
    expected = "Basic am9lOnNlY3JldA=="  # joe:secret

    def guard(handler, path, wanted):
        if handler.headers.get("Authorization") == expected:
            return False
        return web.refuse(handler, 401)

    web.faults.append(guard)
    source = f"{web.url}/stories".replace("//", "//joe:secret@")
    with Serving(troupe, CONFIG.format(source=source)) as server:
        shown = httpx.get(f"{server.url}/admin/models").text
        assert "/stories" in shown and "secret" not in shown, shown
        assert server.ask("storyteller").status_code == 200
        assert "secret" not in httpx.get(f"{server.url}/admin/models").text + server.text()


def test_a_source_that_makes_no_sense_is_said_at_start(troupe):
    (troupe.home / "troupe.yaml").write_text(CONFIG.format(source="gopher://x/y"))
    done = troupe("serve", "--port", 0)
    assert done.returncode != OK and "storyteller" in done.stderr and "gopher" in done.stderr
