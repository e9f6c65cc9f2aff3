"""Tenants of a running server change with its configuration file, under load and all at once."""

import os
import signal
import threading

from http_asking import ask, exchange, until

CONFIG = """
admin_keys: [{env: ADMIN}]
state_dir: state
tenants:
  acme: {keys: [{env: ACME}], weight: %d}
  %s: {keys: [{env: OTHER}]}
"""
KEYS = {"ADMIN": "key-of-admin", "ACME": "key-of-acme", "OTHER": "key-of-other"}
ROUNDS = int(os.environ.get("RELOAD_ROUNDS", 60))


def tenants(server):
    return {x["name"]: x for x in ask(server.url, "/admin/tenants", "key-of-admin")[1]["data"]}


def write(server, text):
    """As editors do: the old file or the new one, never half of one."""
    unfinished = server.file.with_suffix(".tmp")
    unfinished.write_text(text)
    os.replace(unfinished, server.file)


def test_many_reloads_under_load_fail_no_request(make_server):
    server = make_server(CONFIG % (1, "first"), KEYS)
    story = {"model": "stories-llama", "prompt": "Once", "max_tokens": 8}
    stop, outcomes, guard = threading.Event(), [], threading.Lock()

    def client(key):
        while not stop.is_set():
            status, answer = ask(server.url, "/v1/completions", key, story)
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
    print(f"{ROUNDS} reloads, {len(outcomes)} requests of {len(clients)} clients meanwhile")
    assert len(outcomes) > ROUNDS and {status for status, _ in outcomes} == {200}
    rows = ask(server.url, "/admin/usage", "key-of-admin")[1]["data"]
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
        assert ask(server.url, "/v1/models", "key-of-acme")[0] == 200
        assert ask(server.url, "/v1/models", "nobody")[0] == 401
    # Without a signal: the server looks for itself.
    write(server, good.replace("env: OTHER", "env: NEW"))
    until(lambda: tenants(server)["acme"]["weight"] == 5)
    assert ask(server.url, "/v1/models", "key-of-new")[0] == 200
    assert ask(server.url, "/v1/models", "key-of-other")[0] == 401, "a key that is gone is gone at once"


def put(server, text, key="key-of-admin", query=""):
    """(status, JSON)."""
    return ask(server.url, "/admin/config" + query, key, text.encode(), "PUT")


def shown_config(server):
    status, headers, text = exchange(server.url, "/admin/config", "key-of-admin")
    assert status == 200 and headers["content-type"] == "application/yaml"
    return text


def test_what_is_shown_can_be_put_back_and_shows_no_hash(make_server):
    hashed = "0123456789abcdef" * 4
    text = (CONFIG % (1, "first")).replace("{env: OTHER}", '{hash: "sha256:%s", name: x}' % hashed)
    server = make_server(text, KEYS)
    shown = shown_config(server)
    assert hashed not in shown and "sha256:hidden-01234567" in shown
    assert put(server, shown) == (
        200,
        {"object": "config", "tenants": 2, "saved": False, "not_applied": []},
    )
    assert shown_config(server) == shown
    status, answer = put(server, shown.replace("weight: 1\n", "weight: 7\n"))
    assert status == 200 and tenants(server)["acme"]["weight"] == 7
    assert server.file.read_text() == text, "the file is another matter"
    status, answer = put(server, shown + "\nqueue_max: 7\n")
    assert status == 400 and "set twice" in answer["error"]["message"]
    status, answer = put(server, shown.replace("queue_max: 1024", "queue_max: 7"))
    assert (status, answer["not_applied"]) == (200, ["queue_max"])


def test_a_bad_body_changes_nothing_and_says_where(make_server):
    server = make_server(CONFIG % (1, "first"), KEYS)
    good = CONFIG % (3, "first")
    for text, told in {
        good.replace("weight: 3", "weight: lots"): "body:5:39: tenants.acme.weight: 'lots'",
        good + "modle_dirs: []\n": "body:7:1: unknown key 'modle_dirs': did you mean 'model_dirs'",
        "tenants: {acme: {weight: 2}}": "no key is left",
        good.replace("env: ACME", "env: MISSING"): "MISSING is not set",
        good.replace("{env: ACME}", '{hash: "sha256:hidden-12345678"}'): "is no key that this",
        "tenants: [": "body:1",
        "": "no key is left",
    }.items():
        status, answer = put(server, text)
        error = answer["error"]
        assert status == 400 and told in error["message"], error
        assert (error["type"], error["code"]) == ("invalid_request_error", "invalid_config")
        assert tenants(server)["acme"]["weight"] == 1
        assert ask(server.url, "/v1/models", "key-of-other")[0] == 200
    assert put(server, good, key="key-of-acme")[0] == 403
    assert put(server, good, key="nobody")[0] == 401
    assert put(server, good, query="?save=maybe")[0] == 400
    assert server.file.read_text() == CONFIG % (1, "first")


def test_a_saved_configuration_is_that_of_the_next_start(make_server):
    server = make_server(CONFIG % (1, "first"), KEYS)
    server.file.chmod(0o600)
    text = "# mine\n" + CONFIG % (4, "second") + "queue_max: 9\n"
    status, answer = put(server, text, query="?save=true")
    assert (status, answer["saved"], answer["not_applied"]) == (200, True, ["queue_max"])
    assert server.file.read_text() == text and server.file.stat().st_mode & 0o777 == 0o600
    assert set(tenants(server)) == {"acme", "second"}
    server.stop()
    server.start()
    assert tenants(server)["acme"]["weight"] == 4 and "queue_max: 9" in shown_config(server)
