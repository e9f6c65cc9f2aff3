"""Tenants of a running server: shares by weight on the real engine, keys, and limits as the official client sees them."""

import concurrent.futures
import os
import pathlib
import signal
import subprocess
import threading

import pytest
from conftest import wait_for_port
from http_asking import exchange

WEIGHTS = {"one": 1, "two": 2, "four": 4}
CONFIG = """
admin_keys: [{env: TEST_ADMIN_KEY}]
engine: {sequences_max: 4}
tenants:
  one: {keys: [{env: KEY_ONE}], weight: 1}
  two: {keys: [{env: KEY_TWO}], weight: 2}
  four: {keys: [{env: KEY_FOUR}], weight: 4}
  small: {keys: [{env: KEY_SMALL}], models: ["stories*"], limits: {rpm: 3, tpm: 10k, max_tokens: 64}}
"""


@pytest.fixture(scope="module")
def url(request, tmp_path_factory):
    """A server with the tenants above; its output must never hold a key."""
    scratch = tmp_path_factory.mktemp("tenants")
    (scratch / "troupe.yaml").write_text(CONFIG)
    names = ("KEY_ONE", "KEY_TWO", "KEY_FOUR", "KEY_SMALL", "TEST_ADMIN_KEY")
    keys = {name: f"secret-of-{name.lower()}" for name in names}
    port_file, log = scratch / "port", scratch / "log"
    with log.open("w") as out:
        process = subprocess.Popen(
            [
                pathlib.Path(request.config.getoption("--binary")),
                "serve",
                "--config",
                scratch / "troupe.yaml",
                "--no-hub-cache",
                "--log-level",
                "debug",
                "--port",
                "0",
                "--port-file",
                port_file,
                request.config.getoption("--models"),
            ],
            stdout=out,
            stderr=subprocess.STDOUT,
            env=os.environ | keys,
        )
    try:
        yield f"http://127.0.0.1:{wait_for_port(process, port_file, log)}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
    assert "secret-of-" not in log.read_text()


def ask(url, path, key=None, body=None):
    """(status, headers, JSON or text)."""
    return exchange(url, path, key and f"secret-of-{key}", body)


def story(seed, tokens):
    return {
        "model": "stories-llama",
        "prompt": "Once upon a time",
        "max_tokens": tokens,
        "ignore_eos": True,
        "temperature": 1,
        "seed": seed,
    }


def test_three_saturating_tenants_share_by_weight(url):
    # Loading is not what is measured here.
    assert ask(url, "/v1/completions", "key_one", story(0, 1))[0] == 200
    made = dict.fromkeys(WEIGHTS, 0)
    # The bound on drift is a number of tokens: long enough, and it is a small share of them.
    most, seen = 200_000, []
    guard = threading.Lock()

    def client(tenant, number):
        while True:
            with guard:
                if sum(made.values()) >= most:
                    return
            tokens = 24 + number % 5 * 8
            status, _, answer = ask(url, "/v1/completions", f"key_{tenant}", story(number, tokens))
            assert status == 200, answer
            with guard:
                if sum(made.values()) < most:
                    made[tenant] += answer["usage"]["completion_tokens"]

    with concurrent.futures.ThreadPoolExecutor(3 * 12 + 1) as pool:
        running = [pool.submit(client, tenant, i) for tenant in WEIGHTS for i in range(12)]
        while not all(x.done() for x in running):
            concurrent.futures.wait(running, timeout=0.5)
            page = ask(url, "/metrics", "test_admin_key")[2]
            seen += [
                float(line.rsplit(" ", 1)[1])
                for line in page.splitlines()
                if line.startswith("troupe_fairness_drift_ratio{")
            ]
        for x in running:
            x.result()
    for tenant, weight in WEIGHTS.items():
        share = made[tenant] / sum(made.values())
        assert share == pytest.approx(weight / 7, rel=0.05), made
    assert seen and max(seen) <= 1, "the bound holds in the running system"


def test_no_tenant_learns_from_the_prefix_cache_what_another_asked(url):
    prompt = "Once upon a time there was a little secret, and it was told to one tenant only. " * 4
    asked = {"model": "stories-llama", "prompt": prompt, "max_tokens": 1}

    def cached(tenant):
        status, _, answer = ask(url, "/v1/completions", f"key_{tenant}", asked)
        assert status == 200, answer
        return answer["usage"]["prompt_tokens_details"]["cached_tokens"]

    assert cached("one") == 0
    assert cached("one") > 16, "its own prompt is found"
    assert cached("two") == 0
    assert cached("two") > 16


def test_keys_are_asked_for_and_reach_as_far_as_they_should(url):
    assert ask(url, "/health")[0] == 200
    assert ask(url, "/v1/models")[0] == 401
    assert ask(url, "/admin/models", "key_one")[0] == 403
    status, _, listed = ask(url, "/admin/tenants", "test_admin_key")
    assert status == 200 and [x["name"] for x in listed["data"]] == ["one", "two", "four", "small"]
    status, _, answer = ask(
        url, "/v1/completions", "key_small", story(1, 5) | {"model": "arith-qwen"}
    )
    assert status == 403 and answer["error"]["code"] == "model_not_allowed"


def test_the_official_client_understands_a_limit(url):
    import openai

    client = openai.OpenAI(base_url=url + "/v1", api_key="secret-of-key_small", max_retries=0)
    for left in (2, 1, 0):
        raw = client.completions.with_raw_response.create(
            model="stories-llama", prompt="Once", max_tokens=4
        )
        assert raw.headers["x-ratelimit-limit-requests"] == "3"
        assert raw.headers["x-ratelimit-remaining-requests"] == str(left)
        assert raw.headers["x-ratelimit-limit-tokens"] == "10000"
        assert raw.headers["x-ratelimit-reset-requests"].endswith("s")
    with pytest.raises(openai.RateLimitError) as refused:
        client.completions.create(model="stories-llama", prompt="Once", max_tokens=4)
    assert refused.value.code == "rate_limit_exceeded"
    assert 1 <= int(refused.value.response.headers["retry-after"]) <= 60
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=url + "/v1", api_key="none", max_retries=0).models.list()
