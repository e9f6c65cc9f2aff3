"""Tenants of a running server change with its configuration file, under load and all at once."""

import json
import os
import signal
import threading
import urllib.error
import urllib.request

CONFIG = """
admin_keys: [{env: ADMIN}]
state_dir: state
tenants:
  acme: {keys: [{env: ACME}], weight: %d}
  %s: {keys: [{env: OTHER}]}
"""
KEYS = {"ADMIN": "key-of-admin", "ACME": "key-of-acme", "OTHER": "key-of-other"}
ROUNDS = 60


def ask(server, path, key, body=None):
    request = urllib.request.Request(
        server.url + path,
        data=json.dumps(body).encode() if body else None,
        headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refused:
        return refused.code, json.load(refused)


def tenants(server):
    return {x["name"]: x for x in ask(server, "/admin/tenants", "key-of-admin")[1]["data"]}


def write(server, text):
    """As editors do: the old file or the new one, never half of one."""
    unfinished = server.file.with_suffix(".tmp")
    unfinished.write_text(text)
    os.replace(unfinished, server.file)


def until(condition):
    alarm = threading.Timer(60, lambda: os.kill(os.getpid(), signal.SIGINT))
    alarm.start()
    try:
        while not condition():
            pass
    finally:
        alarm.cancel()


def test_many_reloads_under_load_fail_no_request(make_server):
    server = make_server(CONFIG % (1, "first"), KEYS)
    story = {"model": "stories-llama", "prompt": "Once", "max_tokens": 8}
    stop, outcomes, guard = threading.Event(), [], threading.Lock()

    def client(key):
        while not stop.is_set():
            status, answer = ask(server, "/v1/completions", key, story)
            with guard:
                outcomes.append((status, answer.get("usage", {}).get("completion_tokens", 0)))

    clients = [
        threading.Thread(target=client, args=(key,))
        for key in ("key-of-acme", "key-of-acme", "key-of-other")
    ]
    for one in clients:
        one.start()
    try:
        for number in range(2, ROUNDS + 2):
            name = ("first", "second")[number % 2]
            write(server, CONFIG % (number, name))
            server.process.send_signal(signal.SIGHUP)
            until(lambda: tenants(server)["acme"]["weight"] == number)
            assert set(tenants(server)) == {"acme", name}, "all of a file or nothing"
    finally:
        stop.set()
        for one in clients:
            one.join()
    assert len(outcomes) > ROUNDS and {status for status, _ in outcomes} == {200}
    rows = ask(server, "/admin/usage", "key-of-admin")[1]["data"]
    assert sum(x["completion_tokens"] for x in rows) == sum(tokens for _, tokens in outcomes)
    assert {x["tenant"] for x in rows} == {"acme", "first", "second"}


def test_a_bad_file_keeps_the_old_one_and_a_good_one_is_noticed(make_server):
    server = make_server(CONFIG % (1, "first"), KEYS | {"NEW": "key-of-new"})
    good = CONFIG % (5, "first")
    bad_files = {
        "weight: lots": good.replace("weight: 5", "weight: lots"),
        "MISSING is not set": good.replace("env: ACME", "env: MISSING"),
        "no key is left": "tenants: {acme: {weight: 5}}\n",
    }
    for message, text in bad_files.items():
        write(server, text)
        server.process.send_signal(signal.SIGHUP)
        told = message.replace("weight: lots", "'lots' is no weight")
        until(lambda: told in server.log.read_text())
        assert tenants(server)["acme"]["weight"] == 1
        assert ask(server, "/v1/models", "key-of-acme")[0] == 200
        assert ask(server, "/v1/models", "nobody")[0] == 401
    # Without a signal: the server looks for itself.
    write(server, good.replace("env: OTHER", "env: NEW"))
    until(lambda: tenants(server)["acme"]["weight"] == 5)
    assert ask(server, "/v1/models", "key-of-new")[0] == 200
    assert ask(server, "/v1/models", "key-of-other")[0] == 401, "a key that is gone is gone at once"
