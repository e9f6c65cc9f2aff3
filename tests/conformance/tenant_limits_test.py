"""What tenants may keep loaded, load and let wait, on a running server with real models."""

import concurrent.futures
import signal

from http_asking import exchange, until
from reload_test import write

CONFIG = """
admin_keys: [{env: ADMIN}]
state_dir: false
engine: {sequences_max: 1}
tenants:
  acme: {keys: [{env: ACME}], mode: %s, limits: {%s}}
  other: {keys: [{env: OTHER}]}
"""
KEYS = {"ADMIN": "key-of-admin", "ACME": "key-of-acme", "OTHER": "key-of-other"}


def ask(server, path, key, body=None):
    """(status, headers, answer)"""
    return exchange(server.url, path, f"key-of-{key}", body)


def story(server, model, key="acme", tokens=4):
    body = {"model": model, "prompt": "Once", "max_tokens": tokens, "ignore_eos": True}
    return ask(server, "/v1/completions", key, body)


def states(server):
    return {x["id"]: x["state"] for x in ask(server, "/admin/models", "admin")[2]["data"]}


def limits_of(server):
    tenants = ask(server, "/admin/tenants", "admin")[2]["data"]
    return next(x for x in tenants if x["name"] == "acme")


def test_cold_starts_and_their_reload(make_server):
    server = make_server(CONFIG % ("enforce", "cold_starts_per_hour: 1"), KEYS)
    assert story(server, "stories-llama", "other")[0] == 200
    for model in ("stories-llama", "arith-qwen", "arith-qwen", "stories-llama"):
        assert story(server, model)[0] == 200, "warm ones never count"
    status, headers, answer = story(server, "parrot-mistral")
    assert status == 429 and answer["error"]["code"] == "cold_starts_limit"
    assert 3500 < int(headers["retry-after"]) <= 3600
    assert headers["x-should-retry"] == "false", "clients would not wait so long"
    write(server, CONFIG % ("enforce", "cold_starts_per_hour: 2"))
    server.process.send_signal(signal.SIGHUP)
    until(lambda: limits_of(server)["limits"]["cold_starts_per_hour"] == 2)
    assert story(server, "parrot-mistral")[0] == 200


def test_a_tenants_own_idle_model_makes_room(make_server):
    server = make_server(CONFIG % ("enforce", "warm_models: 1"), KEYS)
    assert story(server, "stories-llama")[0] == 200
    assert story(server, "arith-qwen", "other")[0] == 200
    assert story(server, "parrot-mistral")[0] == 200
    until(lambda: states(server)["stories-llama"] == "cold")
    assert states(server)["arith-qwen"] == "ready", "somebody else's"
    table = server.troupe("tenants", "list", key="key-of-admin")
    assert "warm_models: 1" in table, table


def test_a_model_larger_than_a_tenants_memory(make_server):
    server = make_server(CONFIG % ("enforce", "vram: 1MiB"), KEYS)
    status, headers, answer = story(server, "stories-llama")
    assert status == 429 and answer["error"]["code"] == "memory_limit"
    assert headers["x-should-retry"] == "false" and "retry-after" not in headers
    assert story(server, "stories-llama", "other")[0] == 200


def test_a_queue_and_a_shadow_of_it(make_server):
    server = make_server(CONFIG % ("enforce", "queue: 2"), KEYS)

    def burst():
        with concurrent.futures.ThreadPoolExecutor(12) as pool:
            return [
                x[0] for x in pool.map(lambda _: story(server, "stories-llama", tokens=400), range(12))
            ]

    told = burst()
    assert set(told) == {200, 429} and told.count(200) >= 2, "two may wait for the load"
    limited = limits_of(server)["refused_by"]
    assert limited == {"queue": told.count(429)}
    write(server, CONFIG % ("shadow", "queue: 2"))
    server.process.send_signal(signal.SIGHUP)
    until(lambda: limits_of(server)["mode"] == "shadow")
    assert set(burst()) == {200}
    assert limits_of(server)["refused_by"]["queue"] > limited["queue"], "counted all the same"
